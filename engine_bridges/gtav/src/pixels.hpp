// From what the game's buffers hold to what is sent. Pure functions on pixels; know nothing of Direct3D.
//
// How the normals are packed was worked out from the shaders' arithmetic and is not documented by anybody, so it is not
// believed: `Normals` accepts a target and a packing only where the result agrees with normals derived from depth.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "realmaster/sender.hpp"
#include "shot.hpp"

namespace realmaster {

/// Picture being written: `width` x `height`, one of `scale` x `scale` pixels of the source.
struct Size {
    int width = 0, height = 0, scale = 1;
    /// Which source row or column a pixel is taken from: the one in the middle.
    int source(int pixel) const { return pixel * scale + scale / 2; }
};

/// Colour in 4 bytes; averaged where it is scaled.
void write_color(const Plane& from, const Size& size, std::uint8_t* into);
/// float32 depth as it is stored.
void write_depth(const Plane& from, const Size& size, float* into);
/// Classes: the low half of the stencil, and 128 where it is the player's.
void write_segmentation(const Plane& from, const Size& size, std::uint8_t* into);
/// Albedo, stored as square roots of linear values, as sRGB in 4 bytes.
void write_albedo(const Plane& from, const Size& size, std::uint8_t* into);

enum class Packing {
    tight,   // 8 bits in each of rgb, and 3, 3 and 2 bits more in alpha
    simple,  // 2 rgb - 1
};

/// A unit vector along the world's axes from four bytes.
std::array<double, 3> unpack_normal(const std::uint8_t* rgba, Packing packing);
/// World-space normals as two int16 in octahedral encoding.
void write_normals(const Plane& from, Packing packing, const Size& size, std::int16_t* into);

/// Which target holds the normals, and how they are packed.
class Normals {
public:
    struct Place {
        int target = 0;
        Packing packing = Packing::tight;
        double degrees = 0;  // median angle to the normals from depth
    };

    /// Looks at a frame's targets where it is not known, or was not checked for long. The camera is in the pixels of the
    /// planes.
    void look(const Shot& shot, const Camera& camera);
    const std::optional<Place>& place() const { return place_; }
    /// Whether the targets were looked at often enough, and none holds normals.
    bool hopeless() const { return !place_ && failures_ >= MOST_FAILURES; }
    /// Targets that should be read back for the next frame, as bits.
    unsigned wanted() const { return place_ ? 1u << place_->target : (1u << MOST_TARGETS) - 1; }

private:
    static constexpr int MOST_FAILURES = 40;

    std::optional<Place> place_;
    int since_ = 0, failures_ = 0;
};

}  // namespace realmaster
