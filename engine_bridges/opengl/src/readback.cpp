#include "readback.hpp"

namespace realmaster {

Silence::Silence(std::deque<gl::Enum>& kept) {
    for (int i = 0; i < 8; ++i) {
        const gl::Enum error = gl::GetError();
        if (error == gl::NO_ERROR) break;
        kept.push_back(error);
    }
}

Silence::~Silence() {
    for (int i = 0; i < 8 && gl::GetError() != gl::NO_ERROR; ++i) {
    }
}

namespace {

constexpr std::array<gl::Enum, 6> PACKING = {gl::PACK_SWAP_BYTES, gl::PACK_LSB_FIRST,   gl::PACK_ROW_LENGTH,
                                             gl::PACK_SKIP_ROWS,  gl::PACK_SKIP_PIXELS, gl::PACK_ALIGNMENT};
constexpr std::array<gl::Int, 6> TIGHT = {0, 0, 0, 0, 0, 1};

// OpenGL ES knows neither of the first two.
std::size_t first_packing(const Abilities& abilities) { return abilities.version.es ? 2 : 0; }

}  // namespace

ReadState::ReadState(const Abilities& abilities) : abilities_(abilities) {
    for (std::size_t i = first_packing(abilities); i < PACKING.size(); ++i) {
        gl::GetIntegerv(PACKING[i], &packing_[i]);
        if (packing_[i] != TIGHT[i]) gl::PixelStorei(PACKING[i], TIGHT[i]);
    }
    if (abilities.pixel_buffers) gl::GetIntegerv(gl::PIXEL_PACK_BUFFER_BINDING, &buffer_);
    if (abilities.framebuffers) gl::GetIntegerv(gl::READ_FRAMEBUFFER_BINDING, &framebuffer_);
    if (abilities.version.fixed_function) {
        gl::GetFloatv(gl::DEPTH_SCALE, &depth_scale_);
        gl::GetFloatv(gl::DEPTH_BIAS, &depth_bias_);
        if (depth_scale_ != 1) gl::PixelTransferf(gl::DEPTH_SCALE, 1);
        if (depth_bias_ != 0) gl::PixelTransferf(gl::DEPTH_BIAS, 0);
    }
}

ReadState::~ReadState() {
    for (std::size_t i = first_packing(abilities_); i < PACKING.size(); ++i) {
        if (packing_[i] != TIGHT[i]) gl::PixelStorei(PACKING[i], packing_[i]);
    }
    if (abilities_.pixel_buffers) gl::BindBuffer(gl::PIXEL_PACK_BUFFER, static_cast<gl::Uint>(buffer_));
    if (abilities_.framebuffers) gl::BindFramebuffer(gl::READ_FRAMEBUFFER, static_cast<gl::Uint>(framebuffer_));
    if (depth_scale_ != 1) gl::PixelTransferf(gl::DEPTH_SCALE, depth_scale_);
    if (depth_bias_ != 0) gl::PixelTransferf(gl::DEPTH_BIAS, depth_bias_);
}

void ReadState::read_from(gl::Uint framebuffer) {
    if (abilities_.framebuffers) gl::BindFramebuffer(gl::READ_FRAMEBUFFER, framebuffer);
}

void* Memory::begin(std::size_t bytes, bool pixel_buffers) {
    filled = true;
    if (!pixel_buffers) {
        if (plain_.size() < bytes) plain_.resize(bytes);
        return plain_.data();
    }
    if (buffer_ == 0) gl::GenBuffers(1, &buffer_);
    gl::BindBuffer(gl::PIXEL_PACK_BUFFER, buffer_);
    if (size_ != bytes) {
        gl::BufferData(gl::PIXEL_PACK_BUFFER, static_cast<gl::Sizeiptr>(bytes), nullptr, gl::STREAM_READ);
        size_ = bytes;
    }
    return nullptr;
}

const std::uint8_t* Memory::map(bool by_range) {
    if (buffer_ == 0) return plain_.data();
    gl::BindBuffer(gl::PIXEL_PACK_BUFFER, buffer_);
    void* address =
        by_range ? gl::MapBufferRange(gl::PIXEL_PACK_BUFFER, 0, static_cast<gl::Sizeiptr>(size_), gl::MAP_READ_BIT)
                 : gl::MapBuffer(gl::PIXEL_PACK_BUFFER, gl::READ_ONLY);
    mapped_ = address != nullptr;
    return static_cast<const std::uint8_t*>(address);
}

void Memory::unmap() {
    if (mapped_) {
        gl::BindBuffer(gl::PIXEL_PACK_BUFFER, buffer_);
        gl::UnmapBuffer(gl::PIXEL_PACK_BUFFER);
        mapped_ = false;
    }
    filled = false;
}

void Memory::destroy() {
    if (buffer_ != 0) gl::DeleteBuffers(1, &buffer_);
    *this = Memory{};
}

void Slot::unmap() {
    for (Memory* memory : {&color, &hudless, &depth, &extra}) memory->unmap();
    if (fence != nullptr) gl::DeleteSync(fence);
    fence = nullptr;
    shot.reset();
    extra_used = 0;
    state = idle;
}

void Slot::destroy() {
    for (Memory* memory : {&color, &hudless, &depth, &extra}) memory->destroy();
}

gl::Uint Resolver::resolve(gl::Uint from, const PlaneFormat& plane, int width, int height) {
    gl::Enum internal = gl::DEPTH_COMPONENT24;
    switch (plane.format) {
        case DepthFormat::unorm16:
            internal = gl::DEPTH_COMPONENT16;
            break;
        case DepthFormat::unorm24:
            internal = plane.stencil ? gl::DEPTH24_STENCIL8 : gl::DEPTH_COMPONENT24;
            break;
        case DepthFormat::unorm32:
            internal = gl::DEPTH_COMPONENT32;
            break;
        case DepthFormat::float32:
            internal = plane.stencil ? gl::DEPTH32F_STENCIL8 : gl::DEPTH_COMPONENT32F;
            break;
        case DepthFormat::none:
            return 0;
    }
    gl::Int draw = 0, bound = 0;
    gl::GetIntegerv(gl::DRAW_FRAMEBUFFER_BINDING, &draw);
    gl::GetIntegerv(gl::RENDERBUFFER_BINDING, &bound);
    const bool scissor = gl::IsEnabled(gl::SCISSOR_TEST) != 0;
    if (framebuffer_ == 0) {
        gl::GenFramebuffers(1, &framebuffer_);
        gl::GenRenderbuffers(1, &renderbuffer_);
    }
    gl::BindFramebuffer(gl::DRAW_FRAMEBUFFER, framebuffer_);
    if (internal != internal_ || width != width_ || height != height_) {
        gl::BindRenderbuffer(gl::RENDERBUFFER, renderbuffer_);
        gl::RenderbufferStorage(gl::RENDERBUFFER, internal, width, height);
        gl::FramebufferRenderbuffer(gl::DRAW_FRAMEBUFFER, gl::DEPTH_ATTACHMENT, gl::RENDERBUFFER, renderbuffer_);
        gl::FramebufferRenderbuffer(gl::DRAW_FRAMEBUFFER, gl::STENCIL_ATTACHMENT, gl::RENDERBUFFER,
                                    plane.stencil ? renderbuffer_ : 0);
        internal_ = internal;
        width_ = width;
        height_ = height;
    }
    if (scissor) gl::Disable(gl::SCISSOR_TEST);  // it would cut the blit
    gl::BindFramebuffer(gl::READ_FRAMEBUFFER, from);
    while (gl::GetError() != gl::NO_ERROR) {
    }
    gl::BlitFramebuffer(0, 0, width, height, 0, 0, width, height, gl::DEPTH_BUFFER_BIT, gl::NEAREST);
    const bool done = gl::GetError() == gl::NO_ERROR;
    if (scissor) gl::Enable(gl::SCISSOR_TEST);
    gl::BindRenderbuffer(gl::RENDERBUFFER, static_cast<gl::Uint>(bound));
    gl::BindFramebuffer(gl::DRAW_FRAMEBUFFER, static_cast<gl::Uint>(draw));
    if (!done) return 0;
    gl::BindFramebuffer(gl::READ_FRAMEBUFFER, framebuffer_);
    return framebuffer_;
}

void Resolver::destroy() {
    if (framebuffer_ != 0) gl::DeleteFramebuffers(1, &framebuffer_);
    if (renderbuffer_ != 0) gl::DeleteRenderbuffers(1, &renderbuffer_);
    *this = Resolver{};
}

void read_depth(const Rect& area, const PlaneFormat& plane, void* into) {
    // As it is stored: packed with its stencil 24-bit depth is copied, not converted.
    gl::Enum layout = gl::DEPTH_COMPONENT, type = gl::FLOAT;
    if (plane.format == DepthFormat::unorm16) type = gl::UNSIGNED_SHORT;
    if (plane.format == DepthFormat::unorm24 || plane.format == DepthFormat::unorm32) type = gl::UNSIGNED_INT;
    if (plane.format == DepthFormat::unorm24 && plane.stencil) {
        layout = gl::DEPTH_STENCIL;
        type = gl::UNSIGNED_INT_24_8;
    }
    gl::ReadPixels(area.x, area.y, area.width, area.height, layout, type, into);
}

bool prefers_rgba() {
    gl::Int layout = 0;
    gl::GetIntegerv(gl::IMPLEMENTATION_COLOR_READ_FORMAT, &layout);
    return layout == static_cast<gl::Int>(gl::RGBA);
}

void read_color(int width, int height, bool rgba, void* into) {
    if (rgba) {
        gl::ReadPixels(0, 0, width, height, gl::RGBA, gl::UNSIGNED_BYTE, into);
    } else {
        gl::ReadPixels(0, 0, width, height, gl::BGRA, gl::UNSIGNED_INT_8_8_8_8_REV, into);
    }
}

}  // namespace realmaster
