#include "capture.hpp"

#include <algorithm>
#include <cstdio>

namespace realmaster {
namespace {

constexpr std::size_t MEASURED = 600;  // presents
constexpr std::uint64_t UNSEEN_TICKS = 4;  // between two presents: more than the script ever runs ahead
constexpr std::size_t FIRST_MEASURED = 60;

double now() {
    static const double frequency = [] {
        LARGE_INTEGER value;
        QueryPerformanceFrequency(&value);
        return static_cast<double>(value.QuadPart);
    }();
    LARGE_INTEGER value;
    QueryPerformanceCounter(&value);
    return static_cast<double>(value.QuadPart) / frequency;
}

/// Adds the time until its end, in milliseconds.
class Timed {
public:
    explicit Timed(double& into) : into_(into), from_(now()) {}
    ~Timed() { into_ += 1000 * (now() - from_); }

private:
    double& into_;
    double from_;
};

std::string percentiles(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    char text[64];
    std::snprintf(text, sizeof text, "%.3f ms (95 %%: %.3f ms)", values[values.size() / 2], values[values.size() * 95 / 100]);
    return text;
}

}  // namespace

Capture::Capture(const Settings& settings, Log& log, const History& history, Delivery& delivery, std::filesystem::path folder)
    : settings_(settings), log_(log), history_(history), delivery_(delivery), folder_(std::move(folder)) {}

void Capture::present(IDXGISwapChain* chain) {
    const hooks::Inside here;
    if (!enabled) {
        if (slot_) disarm();
        return;
    }
    {
        const Timed whole(inside_ms_);
        const std::uint64_t tick = history_.newest();
        newest_ = lead_.newest(++presents_, tick);
        const bool drew_unseen = tick > tick_ + UNSEEN_TICKS;
        tick_ = tick;
        Com<ID3D11Texture2D> picture;
        if (!adopt(chain) || FAILED(chain->GetBuffer(0, __uuidof(ID3D11Texture2D), picture.into_void()))) {
            if (slot_) disarm();
            return;
        }
        D3D11_TEXTURE2D_DESC desc;
        picture->GetDesc(&desc);
        const bool resized = width_ != desc.Width || height_ != desc.Height;
        if (resized && width_ != 0) {
            log_.line("The picture is now " + std::to_string(desc.Width) + "x" + std::to_string(desc.Height) + ".");
        }
        left(gbuffer_.end());
        gbuffer_.expect(width_ = desc.Width, height_ = desc.Height);
        if (dump_) {
            dump_->finish(picture.get());
            log_.line("A frame was written to " + dump_->folder().u8string() + ".");
            dump_.reset();
        }
        // It began with another size; or the game went on without showing what it drew, as behind a hidden window, and
        // what was copied then is older than the picture.
        if ((resized || drew_unseen) && slot_) disarm();
        if (slot_) finish(picture.get(), desc);
        if (desc.Width >= 64 && desc.Height >= 64) {
            const bool rgba = desc.Format != DXGI_FORMAT_B8G8R8A8_UNORM && desc.Format != DXGI_FORMAT_B8G8R8A8_UNORM_SRGB;
            delivery_.start(static_cast<int>(desc.Width), static_cast<int>(desc.Height), rgba);
        }
        {
            const Timed copying(copying_ms_);
            for (Slot* slot : ring_->collect()) delivery_.push(&slot->shot);
        }
        begin();
    }
    measure(inside_ms_ - copying_ms_, copying_ms_);
    inside_ms_ = copying_ms_ = 0;
}

/// Sees to it that the chain's device is the one that is watched.
bool Capture::adopt(IDXGISwapChain* chain) {
    Com<ID3D11Device> device;
    if (!chain || FAILED(chain->GetDevice(__uuidof(ID3D11Device), device.into_void()))) {
        delivery_.tell("not_direct3d_11", "The game does not draw with Direct3D 11: there are no pixels, only camera and "
                       "entities. Play the Legacy edition to record pixels.");
        return false;
    }
    if (device.get() != device_.get()) {
        if (device_) log_.line("The game draws with another device now.");
        forget_device();
        device_ = device;
        device_->GetImmediateContext(context_.into());
        ring_ = std::make_unique<Ring>(device_, context_, settings_.mode == Mode::take ? 8 : 4);
    }
    const std::string stranger = hooks::watch(context_.get(), this, settings_.foreign_hooks);
    if (!stranger.empty()) {
        delivery_.tell("foreign_hooks", stranger + " has hooked Direct3D before this mod: depth is left out. Close that program, or "
                       "set foreign_hooks = yes in realmaster.ini.");
    } else {
        delivery_.over("foreign_hooks");
    }
    return true;
}

void Capture::forget_device() {
    if (slot_) disarm();
    if (ring_) {
        // The worker reads mapped memory, which goes with the textures.
        for (int waited = 0; ring_->busy() && waited < 500; ++waited) {
            for (Slot* slot : ring_->collect()) delivery_.push(&slot->shot);
            if (ring_->busy()) Sleep(1);
        }
    }
    ring_.reset();
    gbuffer_.begin();
    hooks::restore();
    context_.reset();
    device_.reset();
}

void Capture::bound(ID3D11DeviceContext* context, UINT count, ID3D11RenderTargetView* const* targets,
                    ID3D11DepthStencilView* depth) {
    if (context != context_.get() || !(slot_ || dump_)) return;
    const Timed whole(inside_ms_);
    if (dump_) dump_->bound(count, targets, depth);
    left(gbuffer_.bound(count, targets, depth));
}

void Capture::clears(ID3D11DeviceContext* context, ID3D11DepthStencilView* depth, UINT what, float value) {
    if (context != context_.get() || !(slot_ || dump_)) return;
    const Timed whole(inside_ms_);
    if (dump_) dump_->clears(depth, what, value);
    if (!(what & D3D11_CLEAR_DEPTH)) return;
    Pass* pass = gbuffer_.clears(depth, value);
    // What was drawn so far is the scene; what comes now is drawn over it, as things in hand are.
    if (pass && slot_ && !copied_depth_ && pass->width == width_ && pass->height == height_ && pass->samples == 1) {
        const Timed copying(copying_ms_);
        copied_depth_ = ring_->copy_depth(*slot_, pass->depth.get());
    }
}

/// The G-buffer's targets may be used for something else as soon as they are left for the last time in a frame.
void Capture::left(Pass* pass) {
    if (!pass || !slot_ || pass->width != width_ || pass->height != height_ || pass->samples > 1) return;
    if (pass->leaves < usual_leaves_) return;
    const Timed copying(copying_ms_);
    const unsigned wanted = delivery_.wanted_targets();
    for (int i = 0; i < MOST_TARGETS; ++i) {
        if ((wanted >> i & 1) && pass->targets[i]) ring_->copy_target(*slot_, i, pass->targets[i].get());
    }
    ring_->copy_constants(*slot_);
    copied_target_ = true;
}

/// The frame is complete: what else it needs is copied, or it is said why not.
void Capture::finish(ID3D11Texture2D* picture, const D3D11_TEXTURE2D_DESC& desc) {
    const bool bgra = desc.Format == DXGI_FORMAT_B8G8R8A8_UNORM || desc.Format == DXGI_FORMAT_B8G8R8A8_UNORM_SRGB;
    const bool rgba = desc.Format == DXGI_FORMAT_R8G8B8A8_UNORM || desc.Format == DXGI_FORMAT_R8G8B8A8_UNORM_SRGB;
    if (desc.SampleDesc.Count > 1 || !(bgra || rgba)) {
        delivery_.tell("color_format", "The window's picture has the format " + std::to_string(desc.Format) + " of DXGI with " +
                       std::to_string(desc.SampleDesc.Count) + " samples, which is not recorded: switch HDR and MSAA off.");
        return disarm();
    }
    delivery_.over("color_format");
    Reason why;
    Pass* pass = gbuffer_.choose(why);
    if (why.name != reason_) {
        if (!reason_.empty()) delivery_.over(reason_);
        if (!why.name.empty()) delivery_.tell(why.name, why.sentence);
        reason_ = why.name;
    }
    Slot& slot = *slot_;
    const Timed copying(copying_ms_);
    if (pass && !copied_depth_) copied_depth_ = ring_->copy_depth(slot, pass->depth.get());
    if (!pass) {
        slot.has_depth = slot.has_constants = false;
        slot.has_targets = 0;
    } else {
        if (!copied_target_) slot.has_targets = 0;
        usual_leaves_ = pass->leaves;
        slot.shot.reversed = pass->reversed;
    }
    if (!ring_->copy_color(slot, picture)) {
        delivery_.tell("no_memory", "There is no graphics memory left to read pictures back: close other programs.");
        return disarm();
    }
    slot.shot.width = static_cast<int>(desc.Width);
    slot.shot.height = static_cast<int>(desc.Height);
    slot.shot.rgba = rgba;
    slot.shot.newest = newest_;
    ring_->submit(slot);
    slot_ = nullptr;
    requested_ = 0;
}

void Capture::disarm() {
    delivery_.release(slot_->shot.frame);
    ring_->disarm(*slot_);
    slot_ = nullptr;
}

void Capture::request(int after) { requested_ = presents_ + static_cast<std::uint64_t>(after); }

/// Whether the frame that begins now is to be captured.
bool Capture::due() {
    if (settings_.mode == Mode::lossless) return requested_ != 0 && presents_ + 1 >= requested_;
    if (settings_.mode == Mode::take && !delivery_.wishes.recording) return false;
    if (settings_.fps <= 0) return true;
    const double at = now();
    if (at < next_due_) return false;
    next_due_ = next_due_ + 1 / settings_.fps < at ? at : next_due_ + 1 / settings_.fps;
    return true;
}

/// The next frame begins.
void Capture::begin() {
    gbuffer_.begin();
    copied_target_ = copied_depth_ = false;
    if (delivery_.wishes.dump.exchange(false)) {
        dump_ = std::make_unique<Dump>(folder_, device_, context_);
        if (!dump_->problem().empty()) {
            log_.line(dump_->problem());
            dump_.reset();
        }
    }
    if (!due() || !delivery_.connected()) return;
    Slot* slot = ring_->arm();
    if (!slot) {
        // The worker is behind: the frame is dropped, and counted.
        if (settings_.mode != Mode::lossless) delivery_.release(delivery_.acquire());
        return;
    }
    slot->shot.frame = delivery_.acquire();
    if (slot->shot.frame) slot_ = slot;
    else ring_->disarm(*slot);
}

void Capture::measure(double whole, double copies) {
    whole_ms_.push_back(whole);
    copies_ms_.push_back(copies);
    const bool first = whole_ms_.size() == FIRST_MEASURED && presents_ < 2 * FIRST_MEASURED;
    if (whole_ms_.size() < MEASURED && !first) return;
    log_.line("The thread that renders was kept for " + percentiles(whole_ms_) + " a frame, and for " + percentiles(copies_ms_) +
              " more by Direct3D while it took the orders to copy.");
    if (first) return;
    whole_ms_.clear();
    copies_ms_.clear();
}

void Capture::leave() {
    enabled = false;
    hooks::unwatch();
}

void Capture::release() {
    if (slot_) slot_->shot.frame = nullptr;  // the sender is gone
    slot_ = nullptr;
    dump_.reset();
    gbuffer_.begin();
    ring_.reset();
    context_.reset();
    device_.reset();
}

}  // namespace realmaster
