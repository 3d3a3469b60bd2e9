// The render side: what happens between two presents, and at one.
//
// All of it runs on the thread that renders, but for `request`. It copies and looks; it never waits.
#pragma once

#include <d3d11.h>
#include <dxgi.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "com.hpp"
#include "delivery.hpp"
#include "dump.hpp"
#include "gbuffer.hpp"
#include "hooks.hpp"
#include "ring.hpp"
#include "settings.hpp"
#include "snapshot.hpp"

namespace realmaster {

class Capture : public Watcher {
public:
    Capture(const Settings& settings, Log& log, const History& history, Delivery& delivery, std::filesystem::path folder);

    /// Just before the game presents.
    void present(IDXGISwapChain* chain);

    // The script's, in lossless mode.
    /// Asks for one frame, of which the first one to be captured is the present `after` presents from now.
    void request(int after);
    /// Whether that frame is under way, or cannot be had, so that the game may go on.
    bool taken() const { return requested_ == 0; }
    std::uint64_t presents() const { return presents_; }

    /// Whether frames are wanted at all; the script switches it off for good when the player goes online.
    std::atomic<bool> enabled{true};

    /// Puts everything back that was changed in the game. Afterwards nothing is called any more.
    void leave();
    /// Releases what is held of the graphics card. After `leave`, when nobody reads the copies any more.
    void release();

    void bound(ID3D11DeviceContext* context, UINT count, ID3D11RenderTargetView* const* targets,
               ID3D11DepthStencilView* depth) override;
    void clears(ID3D11DeviceContext* context, ID3D11DepthStencilView* depth, UINT what, float value) override;

private:
    bool adopt(IDXGISwapChain* chain);
    bool fits(const Pass* pass) const;
    void finish(ID3D11Texture2D* picture, const D3D11_TEXTURE2D_DESC& desc);
    void left(Pass* pass);
    bool due();
    void begin();
    void disarm();
    void refuse(const std::string& name, const std::string& sentence);
    void measure(double whole, double copies);
    void forget_device();

    const Settings& settings_;
    Log& log_;
    const History& history_;
    Delivery& delivery_;
    const std::filesystem::path folder_;

    Com<ID3D11Device> device_;
    Com<ID3D11DeviceContext> context_;
    std::unique_ptr<Ring> ring_;
    GBuffer gbuffer_;
    Slot* slot_ = nullptr;    // of the frame that is being drawn
    std::unique_ptr<Dump> dump_;  // likewise
    int usual_leaves_ = 0;    // how often the G-buffer was left in the last frame
    std::string reason_;      // why there was no depth in the last frame
    std::string stranger_;    // the program that has hooked Direct3D before
    UINT width_ = 0, height_ = 0;
    std::atomic<std::uint64_t> presents_{0};
    std::atomic<std::uint64_t> requested_{0};  // the present that is asked for; 0: none
    Lead lead_;
    long long newest_ = 0;  // tick, as of the last present
    double next_due_ = 0;
    std::vector<double> whole_ms_, copies_ms_;  // of captured frames
    std::size_t measured_;  // so many are told of together
    double inside_ms_ = 0, copying_ms_ = 0;  // of this frame so far
    bool captured_ = false;  // this frame
};

}  // namespace realmaster
