// Finds the G-buffer of a frame by its structure: several targets of the window's size that are drawn together with a
// depth of the format R32G8X24.
//
// Looks at what is bound and remembers it until the present; never maps or waits for anything.
#pragma once

#include <d3d11.h>

#include <string>
#include <vector>

#include "com.hpp"
#include "shot.hpp"

namespace realmaster {

struct Pass {
    Com<ID3D11Texture2D> depth;
    Com<ID3D11Texture2D> targets[MOST_TARGETS];  // the first ones; nullptr for one that is no RGBA8
    UINT width = 0, height = 0, samples = 1;
    DXGI_FORMAT depth_format = DXGI_FORMAT_UNKNOWN;
    int leaves = 0;         // how often the targets were exchanged for others, since the scene was begun
    bool cleared = false;   // the depth, after the scene was drawn: what is drawn now begins it anew
    bool reversed = true;   // by the value that the depth was cleared to
};

/// A name for the log and the daemon, and the sentence.
struct Reason {
    std::string name, sentence;
};

class GBuffer {
public:
    /// Size of the window's picture, which the G-buffer must have.
    void expect(UINT width, UINT height);

    /// Notes what is bound now. The result: the pass that has just been left, or nullptr.
    Pass* bound(UINT count, ID3D11RenderTargetView* const* targets, ID3D11DepthStencilView* depth);
    /// Notes that a depth is cleared. The result: the pass whose depth it is, if it was drawn already.
    Pass* clears(ID3D11DepthStencilView* depth, float value);
    /// The binding of the frame is at its end: the pass that was left by that, or nullptr.
    Pass* end();

    /// The frame's one G-buffer, or nullptr with the reason.
    Pass* choose(Reason& why);
    /// Forgets the frame.
    void begin();

private:
    bool full(const Pass& pass) const { return pass.width == width_ && pass.height == height_; }

    std::vector<Pass> passes_;
    int current_ = -1;  // the pass that is bound
    UINT width_ = 0, height_ = 0;
    // What depths were cleared to, by texture; compared only.
    std::vector<std::pair<const void*, float>> cleared_;
    int without_ = 0;  // frames in a row in which there was no pass at all
};

}  // namespace realmaster
