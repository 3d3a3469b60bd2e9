// Reading pictures and depth out of OpenGL without waiting, and without the game noticing.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "gl_api.hpp"
#include "shot.hpp"

namespace realmaster {

// What the driver of one context can do.
struct Abilities {
    gl::Version version;
    bool pixel_buffers = false;  // ARB_pixel_buffer_object: reading without waiting
    bool fences = false;         // ARB_sync: knowing when it is done
    bool framebuffers = false;   // own framebuffers with separate read and draw
    bool clip_control = false;
    bool uniform_blocks = false;
    bool pipelines = false;
};

// Nothing of what happens in its lifetime is left in the game's OpenGL errors; what was there before is kept for it.
class Silence {
public:
    explicit Silence(std::deque<gl::Enum>& kept);
    ~Silence();
    Silence(const Silence&) = delete;
    Silence& operator=(const Silence&) = delete;
};

// Puts pixel packing and the read framebuffer back as they were, at the end of its life. Packing is tight in between.
class ReadState {
public:
    explicit ReadState(const Abilities& abilities);
    ~ReadState();
    ReadState(const ReadState&) = delete;
    ReadState& operator=(const ReadState&) = delete;

    void read_from(gl::Uint framebuffer);

private:
    const Abilities& abilities_;
    std::array<gl::Int, 6> packing_{};
    gl::Int buffer_ = 0, framebuffer_ = 0;
    float depth_scale_ = 1, depth_bias_ = 0;
};

// One piece of memory that the driver fills: a pixel buffer object, or plain memory where there are none.
class Memory {
public:
    // Where the next read goes: an offset into the buffer that is now bound to PIXEL_PACK_BUFFER, or an address.
    void* begin(std::size_t bytes, bool pixel_buffers);
    const std::uint8_t* map(bool by_range);  // nullptr on failure; OpenGL ES can only map ranges
    void unmap();
    void destroy();
    gl::Uint buffer() const { return buffer_; }
    bool filled = false;  // something was read into it for this shot

private:
    gl::Uint buffer_ = 0;
    std::size_t size_ = 0;
    std::vector<std::uint8_t> plain_;
    bool mapped_ = false;
};

// What one shot is read into. States: idle -> filling (a frame is followed) -> pending (the driver works) -> mapped
// (the deliverer reads) -> idle.
struct Slot {
    enum State { idle, filling, pending, mapped } state = idle;
    Memory color, hudless, depth, extra;
    std::size_t extra_used = 0;
    gl::Sync fence = nullptr;
    int swaps = 0;  // since it became pending
    std::shared_ptr<Shot> shot;

    void unmap();
    void destroy();
};

constexpr std::size_t EXTRA_BYTES = 4u << 20;

struct PlaneFormat {
    DepthFormat format = DepthFormat::none;
    bool stencil = false;
    gl::Int samples = 0;         // more than 0: to be resolved before it is read
    float off_x = 0, off_y = 0;  // where in a pixel its depth was taken, from the centre
};

// Resolves multisampled depth: a blit into a framebuffer of our own.
class Resolver {
public:
    // Framebuffer that holds the resolved depth of `from`, or 0 when the driver refuses. Leaves READ_FRAMEBUFFER
    // changed.
    gl::Uint resolve(gl::Uint from, const PlaneFormat& plane, int width, int height);
    void destroy();

private:
    gl::Uint framebuffer_ = 0, renderbuffer_ = 0;
    gl::Enum internal_ = 0;
    int width_ = 0, height_ = 0;
};

// Starts the reading of a rectangle of depth from the framebuffer that is bound for reading.
void read_depth(const Rect& area, const PlaneFormat& plane, void* into);
// Of the framebuffer that is bound for reading, as RGBA or BGRA.
void read_color(int width, int height, bool rgba, void* into);
// Whether RGBA is what the driver reads from it without converting.
bool prefers_rgba();

}  // namespace realmaster
