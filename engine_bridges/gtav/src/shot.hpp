// One captured present, on its way from the thread that renders to the thread that delivers.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "realmaster/sender.hpp"

namespace realmaster {

constexpr int MOST_TARGETS = 4;             // of the G-buffer, that are looked at
constexpr int CONSTANT_SLOTS = 14;          // of Direct3D 11
constexpr std::size_t CONSTANT_BYTES = 4096;  // of a buffer, at most; larger ones hold other things

/// A texture that is mapped: rows of pixels from the top.
struct Plane {
    const std::uint8_t* data = nullptr;  // nullptr: absent
    std::size_t pitch = 0;               // bytes from row to row
};

struct Shot {
    Frame* frame = nullptr;  // the sender's
    long long newest = 0;    // the newest tick when it was presented, as `Lead` has it
    int width = 0, height = 0;

    Plane color;
    bool rgba = false;  // else BGRA
    Plane depth;        // 8 bytes a pixel: float32 depth, stencil in the low byte of the next four
    bool reversed = true;
    std::array<Plane, MOST_TARGETS> targets;  // of the G-buffer, RGBA8; only those that were asked for
    Plane constants;                          // CONSTANT_SLOTS x CONSTANT_BYTES
    std::array<std::size_t, CONSTANT_SLOTS> constant_bytes{};  // how many there are of each

    std::atomic<bool> consumed{false};  // the deliverer has read everything
};

}  // namespace realmaster
