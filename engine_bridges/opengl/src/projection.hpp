// What a projection matrix tells: field of view, near and far, and the law of the depth buffer. Pure arithmetic.
//
// OpenGL's conventions: matrices are column-major and act on column vectors, the camera looks along -z. z below is the
// distance along the optical axis, positive in front of the camera, in engine units.
#pragma once

#include <optional>

namespace realmaster {

// A perspective projection, with or without a rigid transform (the view) to the right of it.
struct Perspective {
    double fx = 0, fy = 0;  // focal lengths in half widths and half heights of the viewport: P[0][0] and P[1][1]
    double sx = 0, sy = 0;  // shift of the principal point: x_ndc = fx x/z - sx
    double a = 0, b = 0;    // z_ndc = a + b / z
    bool pure = false;      // the matrix was a projection alone, not a product with a view
};

// Recognises a perspective in 16 numbers, column-major; also in the transposed layout of engines with row vectors.
// Products with a rotation, a translation and a uniform scale are taken apart; anything else is nullopt.
std::optional<Perspective> recognise(const float matrix[16]);

// Whether two are the same up to rounding.
bool same_view(const Perspective& one, const Perspective& other);

// Whether the last row makes w depend on position: a perspective of some kind, recognised or not.
bool divides(const float matrix[16]);

// The law of a depth buffer: v = alpha + beta / z, with v stretched to 0..1 over the range that the game draws into.
struct DepthLaw {
    double near = 0, far = 0;  // engine units; far may be infinite
    bool reversed = false;     // 1 is near
    double alpha = 0, beta = 0;
};

// near and far from z_ndc = a + b / z; nullopt when they make no sense. zero_to_one: the clip space of glClipControl.
// low, high: of glDepthRange; low > high is reversed as well.
std::optional<DepthLaw> depth_law(double a, double b, bool zero_to_one, double low, double high);

}  // namespace realmaster
