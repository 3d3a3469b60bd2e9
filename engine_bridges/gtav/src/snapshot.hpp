// What the script knows of one tick of the game, and the last of these, for the thread that needs them later.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "realmaster/sender.hpp"

namespace realmaster {

/// The game's axes: x right (east), y forward (north), z up; right-handed, metres. Entities and cameras have the same.
inline Axes gta_axes() { return blender_axes(); }

/// The camera by the natives: degrees and metres.
struct NativeCamera {
    double x = 0, y = 0, z = 0;
    double pitch = 0, roll = 0, yaw = 0;
    double fov = 50;  // vertical
    double near_clip = 0.15, far_clip = 10003.8;

    /// Camera-to-world, its axes as `gta_axes`: Rz(yaw) Rx(pitch) Ry(sign x roll).
    std::array<double, 16> pose(int roll_sign) const;
};

struct Snapshot {
    std::uint64_t tick = 0;
    double time = 0;  // of the game, seconds; stands still while it is paused
    NativeCamera camera;
    std::vector<std::string> flags;
    std::vector<Entity> entities;
};

class History {
public:
    void add(std::shared_ptr<const Snapshot> snapshot);
    /// Number of the newest tick; 0: none yet.
    std::uint64_t newest() const;
    /// The last ones, newest first.
    std::vector<std::shared_ptr<const Snapshot>> all() const;

private:
    mutable std::mutex mutex_;
    std::deque<std::shared_ptr<const Snapshot>> last_;
};

}  // namespace realmaster
