#include "capture.hpp"

#include <algorithm>
#include <cstdio>

#include "textures.hpp"

namespace realmaster {
namespace {

constexpr UINT LEAST_SIZE = 64;  // of a window with a picture, not one that is being opened
constexpr std::size_t FIRST_MEASURED = 30, MEASURED = 600;  // captured frames

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

bool is_bgra(DXGI_FORMAT format) { return format == DXGI_FORMAT_B8G8R8A8_UNORM || format == DXGI_FORMAT_B8G8R8A8_UNORM_SRGB; }
bool is_rgba(DXGI_FORMAT format) { return format == DXGI_FORMAT_R8G8B8A8_UNORM || format == DXGI_FORMAT_R8G8B8A8_UNORM_SRGB; }

std::string percentiles(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    char text[64];
    std::snprintf(text, sizeof text, "%.3f ms (95 %%: %.3f ms)", values[values.size() / 2], values[values.size() * 95 / 100]);
    return text;
}

}  // namespace

Capture::Capture(const Settings& settings, Log& log, const History& history, Delivery& delivery, std::filesystem::path folder)
    : settings_(settings), log_(log), history_(history), delivery_(delivery), folder_(std::move(folder)), measured_(FIRST_MEASURED) {}

void Capture::present(IDXGISwapChain* chain) {
    const hooks::Inside here;
    if (!enabled) {
        if (slot_) disarm();
        return;
    }
    {
        const Timed whole(inside_ms_);
        newest_ = lead_.newest(++presents_, history_.newest());
        Com<ID3D11Texture2D> picture;
        if (!adopt(chain) || FAILED(chain->GetBuffer(0, __uuidof(ID3D11Texture2D), picture.into_void()))) {
            if (slot_) disarm();
            return;
        }
        const D3D11_TEXTURE2D_DESC desc = description(picture.get());
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
        if (resized && slot_) disarm();  // it began with another size
        if (slot_) finish(picture.get(), desc);
        if (desc.Width >= LEAST_SIZE && desc.Height >= LEAST_SIZE) {
            delivery_.start(static_cast<int>(desc.Width), static_cast<int>(desc.Height), is_rgba(desc.Format));
        }
        {
            const Timed copying(copying_ms_);
            for (Slot* slot : ring_->collect()) delivery_.push(&slot->shot);
        }
        begin();
    }
    if (captured_) measure(inside_ms_ - copying_ms_, copying_ms_);
    inside_ms_ = copying_ms_ = 0;
    captured_ = false;
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
    stranger_ = hooks::watch(context_.get(), this, settings_.foreign_hooks);
    return true;
}

/// Whether this may be the G-buffer of the picture.
bool Capture::fits(const Pass* pass) const {
    return pass && slot_ && pass->width == width_ && pass->height == height_ && pass->samples == 1;
}

void Capture::forget_device() {
    if (slot_) disarm();
    if (ring_) {
        for (Slot* slot : ring_->abandon()) delivery_.release(slot->shot.frame);
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
    // What was drawn so far may be the scene, and what comes now be drawn over it, as things in hand are.
    if (fits(pass) && !slot_->has_depth) {
        const Timed copying(copying_ms_);
        ring_->copy_depth(*slot_, pass->depth.get());
    }
}

/// The G-buffer's targets may be used for something else as soon as they are left for the last time in a frame. A scene
/// that is drawn anew before the present, as behind a hidden window, takes the place of the one before.
void Capture::left(Pass* pass) {
    if (!fits(pass)) return;
    slot_->has_depth = false;
    if (pass->leaves == 1) {
        slot_->has_targets = 0;
        slot_->has_constants = false;
    }
    if (pass->leaves < usual_leaves_) return;
    const Timed copying(copying_ms_);
    const unsigned wanted = delivery_.wanted_targets();
    for (int i = 0; i < MOST_TARGETS; ++i) {
        if ((wanted >> i & 1) && pass->targets[i]) ring_->copy_target(*slot_, i, pass->targets[i].get());
    }
    ring_->copy_constants(*slot_);
}

/// The frame is complete: what else it needs is copied, or it is said why not.
void Capture::finish(ID3D11Texture2D* picture, const D3D11_TEXTURE2D_DESC& desc) {
    if (desc.SampleDesc.Count > 1 || !(is_rgba(desc.Format) || is_bgra(desc.Format))) {
        return refuse("color_format", "The window's picture has the format " + std::to_string(desc.Format) + " of DXGI with " +
                      std::to_string(desc.SampleDesc.Count) + " samples, which is not recorded: switch HDR and MSAA off.");
    }
    delivery_.over("color_format");
    Reason why;
    Pass* pass = nullptr;
    if (stranger_.empty()) {
        pass = gbuffer_.choose(why);
    } else {
        why = {"foreign_hooks", stranger_ + " has hooked Direct3D before this mod: depth is left out. Close that program, or set "
               "foreign_hooks = yes in realmaster.ini."};
    }
    if (why.name != reason_) {
        if (!reason_.empty()) delivery_.over(reason_);
        if (!why.name.empty()) delivery_.tell(why.name, why.sentence);
        reason_ = why.name;
    }
    Slot& slot = *slot_;
    const Timed copying(copying_ms_);
    if (pass && !slot.has_depth) ring_->copy_depth(slot, pass->depth.get());
    if (!pass) {
        slot.has_depth = slot.has_constants = false;
        slot.has_targets = 0;
    } else {
        usual_leaves_ = pass->leaves;
        slot.shot.reversed = pass->reversed;
    }
    if (!ring_->copy_color(slot, picture)) {
        return refuse("no_memory", "There is no graphics memory left to read pictures back: close other programs.");
    }
    delivery_.over("no_memory");
    slot.shot.width = static_cast<int>(desc.Width);
    slot.shot.height = static_cast<int>(desc.Height);
    slot.shot.rgba = is_rgba(desc.Format);
    slot.shot.newest = newest_;
    ring_->submit(slot);
    slot_ = nullptr;
    requested_ = 0;
    captured_ = true;
}

void Capture::disarm() {
    delivery_.release(slot_->shot.frame);
    ring_->disarm(*slot_);
    slot_ = nullptr;
}

/// The frame cannot be had; nor can one like it, so that a game that stands still for it goes on.
void Capture::refuse(const std::string& name, const std::string& sentence) {
    delivery_.tell(name, sentence);
    disarm();
    requested_ = 0;
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
    if (whole_ms_.size() < measured_) return;
    measured_ = MEASURED;
    log_.line("The thread that renders was kept for " + percentiles(whole_ms_) + " a captured frame, and for " +
              percentiles(copies_ms_) + " more by Direct3D while it took the orders to copy.");
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
