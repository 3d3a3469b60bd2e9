#include "content.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#if defined(__x86_64__)
#include <tmmintrin.h>
#endif

namespace realmaster {

std::string describe(const DepthKey& key) {
    std::string text = key.kind == 0 ? "the window's depth" : "depth of framebuffer image " + std::to_string(key.name);
    if (key.from_end > 0) text += ", before clear " + std::to_string(key.from_end) + " from the frame's end";
    return text;
}

void to_float(const std::uint8_t* source, DepthFormat format, std::size_t pixels, float* target) {
    const auto* wide = reinterpret_cast<const std::uint32_t*>(source);
    const auto* narrow = reinterpret_cast<const std::uint16_t*>(source);
    switch (format) {
        case DepthFormat::unorm24:
            // A float has 24 bits of its own: every number stays different, and 1 stays 1.
            for (std::size_t i = 0; i < pixels; ++i) {
                target[i] = static_cast<float>(static_cast<std::int32_t>(wide[i] >> 8) * (1.0 / 16777215.0));
            }
            break;
        case DepthFormat::unorm32:
            for (std::size_t i = 0; i < pixels; ++i) target[i] = static_cast<float>(wide[i] * (1.0 / 4294967295.0));
            break;
        case DepthFormat::unorm16:
            for (std::size_t i = 0; i < pixels; ++i) target[i] = static_cast<float>(narrow[i] * (1.0 / 65535.0));
            break;
        case DepthFormat::float32:
            std::memcpy(target, source, pixels * sizeof(float));
            break;
        case DepthFormat::none:
            std::fill_n(target, pixels, 1.0f);
            break;
    }
}

void stretch(float* depth, std::size_t pixels, double low, double high) {
    const double least = std::min(low, high), most = std::max(low, high);
    if (least == 0 && most == 1) return;
    // The far end of the range is what sky is compared with: it must come out as exactly 0 or 1.
    const auto offset = static_cast<float>(least), factor = static_cast<float>(1 / (most - least));
    for (std::size_t i = 0; i < pixels; ++i) {
        const float v = (depth[i] - offset) * factor;
        depth[i] = v > 0.9999999f ? 1.0f : v < 0 ? 0.0f : v;
    }
}

void centre(float* depth, int width, int height, float off_x, float off_y) {
    const auto weaker = [](float one, float other) {
        return one * other <= 0 ? 0.0f : std::fabs(one) < std::fabs(other) ? one : other;
    };
    const std::vector<float> source(depth, depth + static_cast<std::size_t>(width) * static_cast<std::size_t>(height));
    for (int y = 1; y + 1 < height; ++y) {
        const float* at = source.data() + static_cast<std::size_t>(y) * static_cast<std::size_t>(width);
        float* into = depth + static_cast<std::size_t>(y) * static_cast<std::size_t>(width);
        for (int x = 1; x + 1 < width; ++x) {
            const float v = at[x];
            if (v <= 0 || v >= 1) continue;  // sky
            into[x] =
                v - off_x * weaker(at[x + 1] - v, v - at[x - 1]) - off_y * weaker(at[x + width] - v, v - at[x - width]);
        }
    }
}

namespace {

void to_rgb_plain(const std::uint8_t* source, bool rgba, std::size_t pixels, std::uint8_t* target) {
    const int red = rgba ? 0 : 2, blue = rgba ? 2 : 0;
    for (std::size_t i = 0; i < pixels; ++i, source += 4, target += 3) {
        target[0] = source[red];
        target[1] = source[1];
        target[2] = source[blue];
    }
}

#if defined(__x86_64__)
__attribute__((target("ssse3"))) std::size_t to_rgb_fast(const std::uint8_t* source, bool rgba, std::size_t pixels,
                                                         std::uint8_t* target) {
    const __m128i order = rgba ? _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1)
                               : _mm_setr_epi8(2, 1, 0, 6, 5, 4, 10, 9, 8, 14, 13, 12, -1, -1, -1, -1);
    std::size_t done = 0;
    for (; done + 8 <= pixels; done += 4) {  // a store writes 4 bytes more than it brings
        const __m128i four = _mm_loadu_si128(reinterpret_cast<const __m128i*>(source + 4 * done));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(target + 3 * done), _mm_shuffle_epi8(four, order));
    }
    return done;
}
#endif

std::uint64_t hashed(const void* data, std::size_t bytes) {
    std::uint64_t hash = 0xcbf29ce484222325u;
    const auto* at = static_cast<const std::uint8_t*>(data);
    for (; bytes >= 8; bytes -= 8, at += 8) {
        std::uint64_t word;
        std::memcpy(&word, at, 8);
        hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
        hash ^= hash >> 29;
    }
    for (; bytes > 0; --bytes, ++at) hash = (hash ^ *at) * 0x100000001b3u;
    return hash;
}

}  // namespace

void to_rgb(const std::uint8_t* source, bool rgba, std::size_t pixels, std::uint8_t* target) {
    std::size_t done = 0;
#if defined(__x86_64__)
    static const bool fast = __builtin_cpu_supports("ssse3");
    if (fast) done = to_rgb_fast(source, rgba, pixels, target);
#endif
    to_rgb_plain(source + 4 * done, rgba, pixels - done, target + 3 * done);
}

Rows sample(const std::uint8_t* color, bool rgba, const std::uint8_t* depth, DepthFormat format, bool depth_is_whole,
            int width, int height) {
    Rows rows;
    rows.width = width;
    rows.count = PROBE_ROWS;
    const std::size_t row = static_cast<std::size_t>(width);
    rows.depth.resize(row * PROBE_ROWS);
    rows.luma.resize(row * PROBE_ROWS);
    for (int i = 0; i < PROBE_ROWS; ++i) {
        const auto y = static_cast<std::size_t>(probe_row(i, height)), at = static_cast<std::size_t>(i) * row;
        const std::size_t from = (depth_is_whole ? y * row : at) * bytes_per_pixel(format);
        to_float(depth + from, format, row, rows.depth.data() + at);
        const std::uint8_t* pixel = color + y * row * 4;
        for (std::size_t x = 0; x < row; ++x, pixel += 4) {
            const int first = pixel[0], third = pixel[2];
            rows.luma[at + x] = static_cast<std::uint8_t>(
                ((rgba ? first : third) * 77 + pixel[1] * 150 + (rgba ? third : first) * 29) >> 8);
        }
    }
    return rows;
}

Look look_at(const Rows& rows) {
    Look look;
    const std::size_t pixels = rows.depth.size();
    if (pixels == 0) return look;
    std::vector<float> thinned;
    std::size_t drawn = 0;
    for (std::size_t i = 0; i < pixels; ++i) {
        const float v = rows.depth[i];
        drawn += v > 0 && v < 1;
        if (i % 7 == 0) thinned.push_back(v);
    }
    look.covered = static_cast<double>(drawn) / static_cast<double>(pixels);
    std::sort(thinned.begin(), thinned.end());
    look.levels = static_cast<int>(std::unique(thinned.begin(), thinned.end()) - thinned.begin());
    look.depth_hash = hashed(rows.depth.data(), pixels * sizeof(float));
    look.color_hash = hashed(rows.luma.data(), pixels);

    // Along a row, a depth edge is where the second difference of v is large: v is linear in the picture on any plane.
    double at_edges = 0, anywhere = 0;
    std::size_t edges = 0, all = 0;
    for (int y = 0; y < rows.count; ++y) {
        const float* v = rows.depth.data() + static_cast<std::size_t>(y) * static_cast<std::size_t>(rows.width);
        const std::uint8_t* l = rows.luma.data() + static_cast<std::size_t>(y) * static_cast<std::size_t>(rows.width);
        for (int x = 2; x + 2 < rows.width; ++x) {
            const double step = std::abs(l[x + 1] - l[x - 1]);
            anywhere += step;
            ++all;
            const double nearer = 1e-6 + std::min({1 - v[x], 1 - v[x - 1], 1 - v[x + 1]});
            const double bend = std::fabs(static_cast<double>(v[x - 1]) - 2.0 * v[x] + v[x + 1]);
            if (bend > 0.02 * nearer + 1e-6) {
                at_edges += step;
                ++edges;
            }
        }
    }
    if (edges > 20 && anywhere > 0) {
        look.agreement = (at_edges / static_cast<double>(edges)) / (anywhere / static_cast<double>(all));
    }
    return look;
}

double likeness(const std::uint8_t* one, const std::uint8_t* other, int width, int height) {
    std::size_t equal = 0, all = 0;
    for (int i = 0; i < PROBE_ROWS; ++i) {
        const std::size_t from = static_cast<std::size_t>(probe_row(i, height)) * static_cast<std::size_t>(width) * 4;
        for (std::size_t x = 0; x < static_cast<std::size_t>(width); x += 3, ++all) {
            const std::uint8_t *p = one + from + 4 * x, *q = other + from + 4 * x;
            equal += std::abs(p[0] - q[0]) < 12 && std::abs(p[1] - q[1]) < 12 && std::abs(p[2] - q[2]) < 12;
        }
    }
    return all == 0 ? 0 : static_cast<double>(equal) / static_cast<double>(all);
}

}  // namespace realmaster
