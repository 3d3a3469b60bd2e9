// One frame of the game, written out for a report: every set of targets that was bound, as pictures, and a list of them.
//
// Waits for the graphics card, so that frame takes seconds. The pictures are DDS files, which hold any format.
#pragma once

#include <d3d11.h>

#include <filesystem>
#include <string>

#include "com.hpp"

namespace realmaster {

class Dump {
public:
    /// Begins a folder of its own in `parent`.
    Dump(const std::filesystem::path& parent, Com<ID3D11Device> device, Com<ID3D11DeviceContext> context);

    /// Why there is no such folder, or an empty text.
    const std::string& problem() const { return problem_; }
    const std::filesystem::path& folder() const { return folder_; }

    /// Other targets are bound: what was drawn into those before is written.
    void bound(UINT count, ID3D11RenderTargetView* const* targets, ID3D11DepthStencilView* depth);
    void clears(ID3D11DepthStencilView* depth, UINT what, float value);
    /// The frame is over; `picture` is what will be presented.
    void finish(ID3D11Texture2D* picture);

private:
    void write_bound();
    std::string write(ID3D11Texture2D* texture, const std::string& name);
    std::string write_constants();

    std::filesystem::path folder_;
    std::string problem_;
    Com<ID3D11Device> device_;
    Com<ID3D11DeviceContext> context_;
    Com<ID3D11Texture2D> targets_[D3D11_SIMULTANEOUS_RENDER_TARGET_COUNT], depth_;
    int passes_ = 0, files_ = 0;
    std::string entries_;  // of the list, so far
};

}  // namespace realmaster
