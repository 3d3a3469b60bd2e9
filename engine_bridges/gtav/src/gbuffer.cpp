#include "gbuffer.hpp"

#include <algorithm>
#include <utility>

#include "textures.hpp"

namespace realmaster {
namespace {

constexpr UINT LEAST_TARGETS = 3;
constexpr int PATIENCE = 120;  // frames without any 3-D scene, as in menus, before that is told

bool rgba8(DXGI_FORMAT format) {
    return format == DXGI_FORMAT_R8G8B8A8_UNORM || format == DXGI_FORMAT_R8G8B8A8_TYPELESS ||
           format == DXGI_FORMAT_R8G8B8A8_UNORM_SRGB;
}

std::string size(UINT width, UINT height) { return std::to_string(width) + "x" + std::to_string(height); }

}  // namespace

void GBuffer::expect(UINT width, UINT height) {
    width_ = width;
    height_ = height;
}

Pass* GBuffer::end() {
    if (current_ < 0) return nullptr;
    Pass& left = passes_[static_cast<std::size_t>(current_)];
    current_ = -1;
    if (std::exchange(left.cleared, false)) left.leaves = 0;
    ++left.leaves;
    return &left;
}

Pass* GBuffer::bound(UINT count, ID3D11RenderTargetView* const* targets, ID3D11DepthStencilView* depth) {
    UINT drawn = 0;
    for (UINT i = 0; i < count && targets; ++i) drawn += targets[i] != nullptr;
    int now = -1;
    if (drawn >= LEAST_TARGETS && depth != nullptr) {
        const Com<ID3D11Texture2D> texture = texture_of(depth);
        const D3D11_TEXTURE2D_DESC desc = description(texture.get());
        for (std::size_t i = 0; i < passes_.size(); ++i) {
            if (passes_[i].depth.get() == texture.get()) now = static_cast<int>(i);
        }
        if (now < 0 && texture && desc.ArraySize == 1) {
            Pass made;
            made.depth = texture;
            made.width = desc.Width;
            made.height = desc.Height;
            made.samples = desc.SampleDesc.Count;
            made.depth_format = desc.Format;
            for (const auto& [which, value] : cleared_) {
                if (which == texture.get()) made.reversed = value < 0.5f;
            }
            for (UINT i = 0; i < count && i < MOST_TARGETS; ++i) {
                const Com<ID3D11Texture2D> target = texture_of(targets[i]);
                const D3D11_TEXTURE2D_DESC own = description(target.get());
                const bool fits = own.Width == desc.Width && own.Height == desc.Height && own.SampleDesc.Count == 1;
                if (target && fits && rgba8(own.Format)) made.targets[i] = target;
            }
            now = static_cast<int>(passes_.size());
            passes_.push_back(made);
        }
    }
    if (now == current_) return nullptr;
    Pass* left = end();
    current_ = now;
    return left;
}

Pass* GBuffer::clears(ID3D11DepthStencilView* depth, float value) {
    const Com<ID3D11Texture2D> texture = texture_of(depth);
    for (Pass& pass : passes_) {
        if (pass.depth.get() != texture.get()) continue;
        if (pass.leaves > 0) {
            pass.cleared = true;
            return &pass;
        }
        pass.reversed = value < 0.5f;
        return nullptr;
    }
    cleared_.emplace_back(texture.get(), value);
    return nullptr;
}

Pass* GBuffer::choose(Reason& why) {
    without_ = passes_.empty() ? without_ + 1 : 0;
    std::vector<Pass*> found;
    for (Pass& pass : passes_) {
        if (full(pass)) found.push_back(&pass);
    }
    const std::string window = size(width_, height_);
    if (found.size() > 1) {
        why = {"gbuffer_ambiguous", std::to_string(found.size()) + " G-buffers of the window's size are drawn in a frame: depth "
               "is left out. Switch off other mods that draw, and press the dump key for a report."};
        return nullptr;
    }
    if (found.empty()) {
        const auto largest = std::max_element(passes_.begin(), passes_.end(), [](const Pass& a, const Pass& b) {
            return a.width * a.height < b.width * b.height;
        });
        if (largest != passes_.end()) {
            why = {"frame_scaling", "The 3-D scene is drawn at " + size(largest->width, largest->height) + " and shown at " +
                   window + ": depth is left out. Set Frame Scaling Mode to off in the game's advanced graphics."};
        } else if (without_ > PATIENCE) {
            why = {"gbuffer_missing", "No 3-D scene is drawn as this mod knows it: depth is left out. If you are in the game and "
                   "not in a menu, press the dump key and report the build."};
        }
        return nullptr;
    }
    Pass& pass = *found.front();
    if (pass.samples > 1) {
        why = {"msaa", "The scene is drawn with MSAA x" + std::to_string(pass.samples) + ", whose depth cannot be read: depth is "
               "left out. Set MSAA to off in the game's graphics (FXAA and TXAA off is best too)."};
        return nullptr;
    }
    if (pass.depth_format != DXGI_FORMAT_R32G8X24_TYPELESS) {
        why = {"depth_format", "The scene's depth has the format " + std::to_string(pass.depth_format) + " of DXGI in place of "
               "R32G8X24: depth is left out. Press the dump key and report the build and the graphics card."};
        return nullptr;
    }
    return &pass;
}

void GBuffer::begin() {
    passes_.clear();
    cleared_.clear();
    current_ = -1;
}

}  // namespace realmaster
