#include "pixels.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

namespace realmaster {
namespace {

using Vector = std::array<double, 3>;

constexpr double ACCEPTED_DEGREES = 12;  // median; another buffer, or another packing, is off by far more
constexpr double SIMPLE_DEGREES = 1;     // by so much the simple packing must be better
constexpr std::size_t LEAST_SAMPLES = 200;
constexpr int GRID_WIDTH = 96, GRID_HEIGHT = 54;
constexpr int CHECK_EVERY = 120;  // frames
constexpr double SMOOTH = 0.02;   // relative: a greater step in depth is an edge

/// What each byte of a packed normal contributes: n = 256 rgb + low bits - 128, rgb in 0..1. Each of the low parts is
/// what the factor leaves of alpha after the point, without what belongs to the next.
struct Tables {
    std::array<float, 256> high{}, x{}, y{}, z{};
    std::array<std::uint8_t, 256> srgb_of_root{};

    Tables() {
        const auto rest = [](double v) { return v - std::floor(v); };
        for (std::size_t i = 0; i < 256; ++i) {
            const double a = static_cast<double>(i) / 255;
            const double t0 = rest(0.998046875 * a), t1 = rest(7.984375 * a), t2 = rest(63.875 * a);
            high[i] = static_cast<float>(256 * a - 128);
            x[i] = static_cast<float>(t0 - t1 / 8);
            y[i] = static_cast<float>(t1 - t2 / 8);
            z[i] = static_cast<float>(t2);
            const double linear = a * a;  // IEC 61966-2-1
            const double shown = linear <= 0.0031308 ? 12.92 * linear : 1.055 * std::pow(linear, 1 / 2.4) - 0.055;
            srgb_of_root[i] = static_cast<std::uint8_t>(std::lround(255 * shown));
        }
    }
};

const Tables& tables() {
    static const Tables made;
    return made;
}

struct Three {
    float x, y, z;
};

inline Three unpack(const std::uint8_t* p, Packing packing, const Tables& t) {
    if (packing == Packing::simple) {
        return {2 * p[0] / 255.0f - 1, 2 * p[1] / 255.0f - 1, 2 * p[2] / 255.0f - 1};
    }
    return {t.high[p[0]] + t.x[p[3]], t.high[p[1]] + t.y[p[3]], t.high[p[2]] + t.z[p[3]]};
}

inline std::int16_t snorm(float v) { return static_cast<std::int16_t>(std::lrint(std::clamp(v, -1.0f, 1.0f) * 32767)); }

double angle(const Vector& a, const Vector& b) {
    double product = 0;
    for (std::size_t i = 0; i < 3; ++i) product += a[i] * b[i];
    return std::acos(std::clamp(product, -1.0, 1.0)) * 180 / 3.14159265358979323846;
}

float stored_depth(const Plane& depth, int x, int y) {
    float v;
    std::memcpy(&v, depth.data + depth.pitch * static_cast<std::size_t>(y) + 8 * static_cast<std::size_t>(x), 4);
    return v;
}

/// Metres along the optical axis; 0 for sky.
double metres(float stored, bool reversed, const Camera& camera) {
    const double v = reversed ? stored : 1.0 - stored, n = camera.near_clip, f = camera.far_clip;
    return v > 0 ? f * n / (n + v * (f - n)) : 0;
}

/// A normal from depth, along the world's axes, and where it was taken.
struct Sample {
    int x, y;
    Vector normal;
};

std::vector<Sample> normals_from_depth(const Shot& shot, const Camera& camera) {
    std::vector<Sample> samples;
    for (int j = 0; j < GRID_HEIGHT; ++j) {
        for (int i = 0; i < GRID_WIDTH; ++i) {
            const int x = (2 * i + 1) * shot.width / (2 * GRID_WIDTH), y = (2 * j + 1) * shot.height / (2 * GRID_HEIGHT);
            if (x < 1 || y < 1 || x + 1 >= shot.width || y + 1 >= shot.height) continue;
            const auto distance = [&](int dx, int dy) { return metres(stored_depth(shot.depth, x + dx, y + dy), shot.reversed, camera); };
            const double here = distance(0, 0), left = distance(-1, 0), right = distance(1, 0), above = distance(0, -1),
                         below = distance(0, 1);
            const double least = std::min({here, left, right, above, below});
            const double most = std::max({here, left, right, above, below});
            if (!(least > 0) || most - least > SMOOTH * here) continue;
            // In the game's axes of the camera: x right, y forward, z up.
            const auto point = [&](int dx, int dy, double z) {
                return Vector{(x + dx - camera.cx) / camera.fx * z, z, -(y + dy - camera.cy) / camera.fy * z};
            };
            const Vector l = point(-1, 0, left), r = point(1, 0, right), a = point(0, -1, above), b = point(0, 1, below);
            const Vector u{r[0] - l[0], r[1] - l[1], r[2] - l[2]}, v{a[0] - b[0], a[1] - b[1], a[2] - b[2]};
            Vector n{u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]};
            const double length = std::sqrt(n[0] * n[0] + n[1] * n[1] + n[2] * n[2]);
            if (!(length > 0)) continue;
            Vector world{};
            for (std::size_t row = 0; row < 3; ++row) {
                for (std::size_t k = 0; k < 3; ++k) world[row] += camera.pose[4 * row + k] * n[k] / length;
            }
            samples.push_back({x, y, world});
        }
    }
    return samples;
}

double median_angle(const std::vector<Sample>& samples, const Plane& plane, Packing packing) {
    std::vector<double> angles;
    for (const Sample& sample : samples) {
        const std::uint8_t* pixel =
            plane.data + plane.pitch * static_cast<std::size_t>(sample.y) + 4 * static_cast<std::size_t>(sample.x);
        angles.push_back(angle(unpack_normal(pixel, packing), sample.normal));
    }
    std::nth_element(angles.begin(), angles.begin() + static_cast<std::ptrdiff_t>(angles.size() / 2), angles.end());
    return angles[angles.size() / 2];
}

/// The row of the source that a row is taken from.
const std::uint8_t* row_of(const Plane& from, const Size& size, int y) {
    return from.data + from.pitch * static_cast<std::size_t>(size.source(y));
}

}  // namespace

void write_color(const Plane& from, const Size& size, std::uint8_t* into) {
    const std::size_t bytes = 4 * static_cast<std::size_t>(size.width);
    for (int y = 0; y < size.height; ++y, into += bytes) {
        if (size.scale == 1) {
            std::memcpy(into, row_of(from, size, y), bytes);
            continue;
        }
        const unsigned count = static_cast<unsigned>(size.scale * size.scale);
        for (int x = 0; x < size.width; ++x) {
            unsigned sums[4] = {};
            for (int j = 0; j < size.scale; ++j) {
                const std::uint8_t* p = from.data + from.pitch * static_cast<std::size_t>(y * size.scale + j) +
                                        4 * static_cast<std::size_t>(x * size.scale);
                for (int i = 0; i < 4 * size.scale; ++i) sums[i & 3] += p[i];
            }
            for (int k = 0; k < 4; ++k) into[4 * x + k] = static_cast<std::uint8_t>((sums[k] + count / 2) / count);
        }
    }
}

void write_depth(const Plane& from, const Size& size, float* into) {
    for (int y = 0; y < size.height; ++y, into += size.width) {
        const std::uint8_t* row = row_of(from, size, y);
        for (int x = 0; x < size.width; ++x) std::memcpy(into + x, row + 8 * static_cast<std::size_t>(size.source(x)), 4);
    }
}

void write_segmentation(const Plane& from, const Size& size, std::uint8_t* into) {
    for (int y = 0; y < size.height; ++y, into += size.width) {
        const std::uint8_t* row = row_of(from, size, y);
        for (int x = 0; x < size.width; ++x) into[x] = row[8 * static_cast<std::size_t>(size.source(x)) + 4] & 0x8F;
    }
}

void write_albedo(const Plane& from, const Size& size, std::uint8_t* into) {
    const Tables& t = tables();
    for (int y = 0; y < size.height; ++y, into += 4 * size.width) {
        const std::uint8_t* row = row_of(from, size, y);
        for (int x = 0; x < size.width; ++x) {
            const std::uint8_t* p = row + 4 * static_cast<std::size_t>(size.source(x));
            for (int k = 0; k < 3; ++k) into[4 * x + k] = t.srgb_of_root[p[k]];
            into[4 * x + 3] = 255;
        }
    }
}

std::array<double, 3> unpack_normal(const std::uint8_t* rgba, Packing packing) {
    const Three n = unpack(rgba, packing, tables());
    const double length = std::max(1e-9, std::sqrt(static_cast<double>(n.x) * n.x + static_cast<double>(n.y) * n.y +
                                                   static_cast<double>(n.z) * n.z));
    return {n.x / length, n.y / length, n.z / length};
}

void write_normals(const Plane& from, Packing packing, const Size& size, std::int16_t* into) {
    const Tables& t = tables();
    for (int y = 0; y < size.height; ++y, into += 2 * size.width) {
        const std::uint8_t* row = row_of(from, size, y);
        for (int x = 0; x < size.width; ++x) {
            const Three n = unpack(row + 4 * static_cast<std::size_t>(size.source(x)), packing, t);
            const float sum = std::fabs(n.x) + std::fabs(n.y) + std::fabs(n.z), scale = sum > 0 ? 1 / sum : 0;
            float u = n.x * scale, v = n.y * scale;
            if (n.z < 0) {  // folded over the diagonals, as PROTOCOL.md has it
                const float folded = (1 - std::fabs(v)) * (u < 0 ? -1.0f : 1.0f);
                v = (1 - std::fabs(u)) * (v < 0 ? -1.0f : 1.0f);
                u = folded;
            }
            into[2 * x] = snorm(u);
            into[2 * x + 1] = snorm(v);
        }
    }
}

void Normals::look(const Shot& shot, const Camera& camera) {
    if (place_ && ++since_ < CHECK_EVERY) return;
    const std::vector<Sample> samples = normals_from_depth(shot, camera);
    if (samples.size() < LEAST_SAMPLES) return;  // sky, or leaves: says nothing
    std::optional<Place> best;
    for (int target = 0; target < MOST_TARGETS; ++target) {
        const Plane& plane = shot.targets[static_cast<std::size_t>(target)];
        if (plane.data == nullptr) continue;
        for (const Packing packing : {Packing::tight, Packing::simple}) {
            // Surfaces that are not flat tell the two apart by less than their own unevenness.
            const double degrees = median_angle(samples, plane, packing) + (packing == Packing::simple ? SIMPLE_DEGREES : 0);
            if (!best || degrees < best->degrees) best = Place{target, packing, degrees};
        }
    }
    since_ = 0;
    if (best && best->degrees < ACCEPTED_DEGREES) {
        place_ = best;
        failures_ = 0;
    } else {
        place_.reset();
        ++failures_;
    }
}

}  // namespace realmaster
