#include "projection.hpp"

#include <cmath>
#include <limits>

namespace realmaster {
namespace {

struct Row {
    double x, y, z, w;
};

double dot(const Row& p, const Row& q) { return p.x * q.x + p.y * q.y + p.z * q.z; }

Row less(const Row& p, double k, const Row& q) {  // p - k q
    return {p.x - k * q.x, p.y - k * q.y, p.z - k * q.z, p.w - k * q.w};
}

constexpr double SKEW = 2e-3;  // cosine up to which two rows count as perpendicular; float products err by 1e-4

// Rows of M = P V: with V's rotation R and translation t, and a uniform scale s of what V acts on,
//   x = fx s [R0 t0] + sx w,  y = fy s [R1 t1] + sy w,  z = -A w' + [0 0 0 B],  w = -s [R2 t2].
// So x and y without their share of w are perpendicular to it and to each other, and z is parallel to w up to B.
std::optional<Perspective> from_rows(const Row& x, const Row& y, const Row& z, const Row& w) {
    const double ww = dot(w, w);
    if (!(ww > 1e-12) || !std::isfinite(ww)) return std::nullopt;
    const double kx = dot(x, w) / ww, ky = dot(y, w) / ww, kz = dot(z, w) / ww;
    const Row px = less(x, kx, w), py = less(y, ky, w), pz = less(z, kz, w);
    const double scale = std::sqrt(ww), lx = std::sqrt(dot(px, px)), ly = std::sqrt(dot(py, py));
    if (!(lx > 0) || !(ly > 0)) return std::nullopt;
    if (std::fabs(dot(px, py)) > SKEW * lx * ly) return std::nullopt;
    if (std::sqrt(dot(pz, pz)) > SKEW * scale) return std::nullopt;

    Perspective found;
    found.fx = lx / scale;
    found.fy = ly / scale;
    found.sx = -kx;
    found.sy = -ky;
    found.a = kz;
    found.b = pz.w;
    found.pure = x.y == 0 && x.w == 0 && y.x == 0 && y.w == 0 && w.x == 0 && w.y == 0 && w.w == 0 &&
                 std::fabs(std::fabs(w.z) - 1) < 1e-5;
    const bool sane = found.fx > 0.05 && found.fx < 30 && found.fy > 0.05 && found.fy < 30 &&
                      std::fabs(found.sx) < 0.3 && std::fabs(found.sy) < 0.3 && std::fabs(found.b) > 1e-9 &&
                      std::isfinite(found.b);
    if (!sane) return std::nullopt;
    return found;
}

}  // namespace

std::optional<Perspective> recognise(const float m[16]) {
    const auto row = [m](int i) { return Row{m[i], m[4 + i], m[8 + i], m[12 + i]}; };
    if (auto found = from_rows(row(0), row(1), row(2), row(3))) return found;
    const auto column = [m](int i) { return Row{m[4 * i], m[4 * i + 1], m[4 * i + 2], m[4 * i + 3]}; };
    const Row w = column(3);
    // A plain translation, transposed, looks like a weak perspective: ask for a rigid view and a realistic law.
    if (std::fabs(dot(w, w) - 1) > 1e-3) return std::nullopt;
    return from_rows(column(0), column(1), column(2), w);
}

bool same_view(const Perspective& p, const Perspective& q) {
    const auto near_by = [](double one, double other, double tolerance) {
        return std::fabs(one - other) <= tolerance * std::fmax(std::fabs(one), std::fabs(other));
    };
    return near_by(p.fx, q.fx, 2e-3) && near_by(p.fy, q.fy, 2e-3) && near_by(p.b, q.b, 2e-2) &&
           near_by(p.a, q.a, 1e-3) && std::fabs(p.sx - q.sx) < 2e-3 && std::fabs(p.sy - q.sy) < 2e-3;
}

bool divides(const float m[16]) {
    const double along = std::fabs(m[3]) + std::fabs(m[7]) + std::fabs(m[11]);
    return std::isfinite(along) && along > 1e-6;
}

std::optional<DepthLaw> depth_law(double a, double b, bool zero_to_one, double low, double high) {
    if (low == high) return std::nullopt;
    // v over the range that is drawn into: 0 at low, 1 at high when low < high, mirrored otherwise.
    double alpha = zero_to_one ? a : (a + 1) / 2, beta = zero_to_one ? b : b / 2;
    if (low > high) {
        alpha = 1 - alpha;
        beta = -beta;
    }
    DepthLaw law;
    law.alpha = alpha;
    law.beta = beta;
    law.reversed = beta > 0;
    if (law.reversed) {
        alpha = 1 - alpha;
        beta = -beta;
    }
    // ndc: alpha = f / (f - n), beta = -f n / (f - n). In floats an infinite far leaves a rest of rounding.
    law.near = -beta / alpha;
    law.far = std::fabs(1 - alpha) < 2e-7 ? std::numeric_limits<double>::infinity() : beta / (1 - alpha);
    if (!(law.near > 0) || !std::isfinite(law.near) || !(law.far > law.near * 1.05)) return std::nullopt;
    return law;
}

}  // namespace realmaster
