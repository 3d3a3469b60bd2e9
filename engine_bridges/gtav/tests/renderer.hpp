// Draws the scene with Direct3D 11 as a deferred renderer does: shadow map, mirror, G-buffer, lighting, tone mapping, HUD.
#pragma once

#include <d3d11.h>

#include <functional>
#include <memory>
#include <string>

#include "scene.hpp"

struct RenderOptions {
    int samples = 1;              // of the G-buffer
    double scale = 1;             // size of the G-buffer over that of the window
    bool wrong_depth = false;     // R24G8 in place of R32G8X24
    bool shadow = true, mirror = true;  // passes into depths of their own
    bool decoy = false;           // a depth of full size that only one target is drawn with
    bool ambiguous = false;       // a second G-buffer of full size
    int passes = 1;               // how often the G-buffer is bound in a frame
    bool hide_matrices = false;   // of the constant buffers, only the product can be read
    bool reuse_normals = false;   // the target of the normals is drawn over after the lighting
    bool clear_again = false;     // the depth is cleared before the HUD, as for things in hand
    std::string late;             // "color" or "depth": of the step before
    DXGI_FORMAT window_format = DXGI_FORMAT_B8G8R8A8_UNORM;
    int window_samples = 1;
};

class Renderer {
public:
    Renderer(HWND window, int width, int height, const RenderOptions& options);
    ~Renderer();

    void resize(int width, int height);
    void draw(const scene::State& state);
    void present();
    IDXGISwapChain* swap_chain();
    ID3D11DeviceContext* context();

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};
