// What a depth buffer's numbers look like: whether they can be a scene, and whether they are the picture's. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "shot.hpp"

namespace realmaster {

// Some rows of a picture: luma and depth of the same pixels.
struct Rows {
    int width = 0, count = 0;
    std::vector<float> depth;         // count x width, 0 to 1
    std::vector<std::uint8_t> luma;   // count x width
};

// Depth at the centres of pixels, from depth taken off them by so many pixels: along the slope, which is even on any
// plane; the weaker of the slopes to either side, so that silhouettes stay where they are.
void centre(float* depth, int width, int height, float off_x, float off_y);

struct Look {
    double covered = 0;    // share of pixels that something was drawn on
    int levels = 0;        // different numbers, up to a limit
    double agreement = 1;  // how much stronger the picture's edges are where the depth has edges; 1 is chance
    std::uint64_t depth_hash = 0;
    std::uint64_t color_hash = 0;

    bool constant() const { return levels < 4 || covered < 0.002; }
};

// Numbers of a depth buffer as 0..1.
void to_float(const std::uint8_t* source, DepthFormat format, std::size_t pixels, float* target);

// Stretches numbers that were drawn with glDepthRange(low, high) to 0..1.
void stretch(float* depth, std::size_t pixels, double low, double high);

// Colour without its fourth component, in the order r, g, b.
void to_rgb(const std::uint8_t* source, bool rgba, std::size_t pixels, std::uint8_t* target);

// The probe rows of a picture. depth: whole picture when depth_is_whole, else only the rows, one after another.
Rows sample(const std::uint8_t* color, bool rgba, const std::uint8_t* depth, DepthFormat format, bool depth_is_whole,
            int width, int height);

Look look_at(const Rows& rows);

// Share of the pixels of the probe rows in which two pictures are nearly equal.
double likeness(const std::uint8_t* one, const std::uint8_t* other, int width, int height);

}  // namespace realmaster
