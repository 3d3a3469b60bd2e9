// One captured frame on its way from the thread that renders to the thread that delivers.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "projection.hpp"
#include "realmaster/sender.hpp"

namespace realmaster {

struct Rect {
    int x = 0, y = 0, width = 0, height = 0;  // pixels, from the bottom-left corner

    double area() const { return static_cast<double>(width) * height; }
    bool operator==(const Rect& other) const {
        return x == other.x && y == other.y && width == other.width && height == other.height;
    }
};

// How a depth buffer's numbers come out of glReadPixels.
enum class DepthFormat {
    none,
    unorm16,    // uint16
    unorm24,    // uint32, the number in the upper 24 bits
    unorm32,    // uint32
    float32,
};

inline std::size_t bytes_per_pixel(DepthFormat format) { return format == DepthFormat::unorm16 ? 2 : 4; }

// Which depth of a frame: a plane of memory, and which of its fillings when it is cleared and used again.
struct DepthKey {
    std::uint32_t kind = 0;  // 0 the window's own, else GL_RENDERBUFFER or GL_TEXTURE
    std::uint32_t name = 0;  // of the renderbuffer or texture
    std::uint32_t place = 0;  // level and layer
    int from_end = 0;        // 0 the last filling of the frame, 1 the one before it, ...
    int of = 0;              // fillings in the frame: with another number they mean something else

    bool operator<(const DepthKey& o) const {
        if (kind != o.kind) return kind < o.kind;
        if (name != o.name) return name < o.name;
        if (place != o.place) return place < o.place;
        if (of != o.of) return of < o.of;
        return from_end < o.from_end;
    }
    bool operator==(const DepthKey& o) const { return !(*this < o) && !(o < *this); }
};

std::string describe(const DepthKey& key);

// With what lens a share of a depth filling was drawn.
struct Lens {
    std::optional<Perspective> perspective;  // nullopt: not recognised (yet)
    Rect viewport;
    double low = 0, high = 1;  // glDepthRange
    bool zero_to_one = false;  // glClipControl
    bool reversed = false;     // by clear value and comparison, where the projection does not tell
    long long weight = 0;      // vertices drawn with it
    std::uint32_t program = 0;  // whose uniform buffer holds the projection, else 0
    std::size_t copy_at = 0, copy_bytes = 0;  // where Shot::extra has a copy of that buffer's matrices
    std::vector<std::uint32_t> row_major;  // 1 for each of those matrices that is stored by rows
};

// A few rows of a depth that may be the scene's, to judge it by its content.
struct Probe {
    DepthKey key;
    DepthFormat format = DepthFormat::none;
    std::size_t at = 0;  // in Shot::extra
    bool has_color = true;  // something was coloured along with it: not a shadow map
    bool right_aspect = true;
    long long weight = 0;
};

constexpr int PROBE_ROWS = 16;

// Row of the picture that a probe's row shows.
inline int probe_row(int index, int height) {
    return static_cast<int>((static_cast<long long>(index) * 2 + 1) * height / (2 * PROBE_ROWS));
}

struct Shot {
    Frame* frame = nullptr;  // nullptr: only to be looked at
    std::shared_ptr<Sender> sender;  // whose frame it is
    int announced = 0;       // Plan::announced when the frame was acquired
    double time = 0;         // seconds since the first swap
    int width = 0, height = 0;
    bool color_rgba = false;  // OpenGL ES gives RGBA, others BGRA

    const std::uint8_t* color = nullptr;    // 4 bytes a pixel, bottom row first
    const std::uint8_t* hudless = nullptr;  // likewise
    bool no_hud = false;                    // nothing was drawn over the scene: color has no HUD
    const std::uint8_t* depth = nullptr;
    DepthFormat depth_format = DepthFormat::none;
    DepthKey depth_key;
    float off_x = 0, off_y = 0;  // where in a pixel the depth was taken, from the centre (multisampling)
    std::vector<Lens> lenses;  // of the filling that depth was read from

    const std::uint8_t* extra = nullptr;
    std::vector<Probe> probes;
    std::string why_no_depth;  // name of the reason; empty: there is depth, or nothing to say yet
    std::string detail;        // of the reason

    std::atomic<bool> released{false};  // the deliverer has read everything
};

}  // namespace realmaster
