#include "matching.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>

namespace realmaster {
namespace {

using Vector = std::array<double, 3>;
using Matrix = std::array<double, 16>;

constexpr double NEAR_METRES = 3, NEAR_DEGREES = 15;  // farther away it is another matrix
constexpr double NOISE = 4;          // how many times worse another tick must fit to be told apart,
constexpr double NOISE_FLOOR = 2e-4;  // and by how much at least
constexpr std::size_t LEAD_KEPT = 60;  // presents
constexpr long long JUMP = 3;
constexpr int VOTES = 5;

double dot(const Vector& a, const Vector& b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }

double degrees_between(const Vector& a, const Vector& b) {
    // By the chord: the cosine of a small angle has no digits left.
    const Vector d{a[0] - b[0], a[1] - b[1], a[2] - b[2]};
    return 2 * std::asin(std::min(1.0, std::sqrt(dot(d, d)) / 2)) * 180 / 3.14159265358979323846;
}

/// Axes and place of a matrix that may be a camera's: camera-to-world for row vectors, or for column vectors.
struct Rigid {
    Vector right, up, back, place;
};

std::optional<Rigid> rigid(const float* m, bool column_vectors) {
    const auto at = [&](int row, int column) { return static_cast<double>(column_vectors ? m[4 * column + row] : m[4 * row + column]); };
    // The cheap test first: most matrices fail it.
    if (at(0, 3) != 0 || at(1, 3) != 0 || at(2, 3) != 0 || at(3, 3) != 1) return std::nullopt;
    Rigid found;
    Vector* const rows[] = {&found.right, &found.up, &found.back, &found.place};
    for (int i = 0; i < 4; ++i) {
        for (int k = 0; k < 3; ++k) {
            (*rows[i])[static_cast<std::size_t>(k)] = at(i, k);
            if (!std::isfinite(at(i, k))) return std::nullopt;
        }
    }
    for (int i = 0; i < 3; ++i) {
        for (int j = i; j < 3; ++j) {
            if (std::fabs(dot(*rows[i], *rows[j]) - (i == j)) > 1e-3) return std::nullopt;
        }
    }
    return found;
}

struct Distance {
    double metres, degrees;
    /// One number to compare by: a degree counts as much as a metre seen from 57 metres away.
    double both() const { return metres + degrees; }
};

Distance distance(const Rigid& matrix, const NativeCamera& camera, int roll_sign) {
    const Vector away{matrix.place[0] - camera.x, matrix.place[1] - camera.y, matrix.place[2] - camera.z};
    const double metres = std::sqrt(dot(away, away));
    if (metres > NEAR_METRES) return {metres, 180};  // as most are
    const std::array<double, 16> pose = camera.pose(roll_sign);
    const Vector right{pose[0], pose[4], pose[8]}, forward{pose[1], pose[5], pose[9]}, up{pose[2], pose[6], pose[10]};
    const Vector ahead{-matrix.back[0], -matrix.back[1], -matrix.back[2]};
    // The third axis points backwards in a right-handed view space, forwards in a left-handed one.
    const double along = std::min(degrees_between(ahead, forward), degrees_between(matrix.back, forward));
    return {metres, std::max({degrees_between(matrix.right, right), degrees_between(matrix.up, up), along})};
}

Matrix product(const Matrix& a, const Matrix& b) {
    Matrix c{};
    for (std::size_t i = 0; i < 4; ++i) {
        for (std::size_t j = 0; j < 4; ++j) {
            for (std::size_t k = 0; k < 4; ++k) c[4 * i + j] += a[4 * i + k] * b[4 * k + j];
        }
    }
    return c;
}

/// The inverse of an affine matrix for row vectors; nothing when it has none.
std::optional<Matrix> inverse(const Matrix& m) {
    const auto cofactor = [&](std::size_t i, std::size_t j) {
        const std::size_t a = (i + 1) % 3, b = (i + 2) % 3, c = (j + 1) % 3, d = (j + 2) % 3;
        return m[4 * a + c] * m[4 * b + d] - m[4 * a + d] * m[4 * b + c];
    };
    const double determinant = m[0] * cofactor(0, 0) + m[1] * cofactor(0, 1) + m[2] * cofactor(0, 2);
    if (!(std::fabs(determinant) > 1e-12)) return std::nullopt;
    Matrix r{};
    for (std::size_t i = 0; i < 3; ++i) {
        for (std::size_t j = 0; j < 3; ++j) r[4 * i + j] = cofactor(j, i) / determinant;
    }
    for (std::size_t j = 0; j < 3; ++j) {
        r[12 + j] = -(m[12] * r[j] + m[13] * r[4 + j] + m[14] * r[8 + j]);
    }
    r[15] = 1;
    return r;
}

Matrix read(const float* m) {
    Matrix r;
    std::copy(m, m + 16, r.begin());
    return r;
}

/// The lens from world-view and world-view-projection, which stand before the camera's matrix in the game's buffer
/// (world, world-view, world-view-projection, view inverse), for row vectors.
std::optional<Lens> lens(const float* view_inverse, const float* begin) {
    if (view_inverse - begin < 32) return std::nullopt;
    const std::optional<Matrix> back = inverse(read(view_inverse - 32));
    if (!back) return std::nullopt;
    const Matrix p = product(*back, read(view_inverse - 16));
    const double w = p[11];  // +-1: the third coordinate becomes the divisor
    const double others = std::max({std::fabs(p[1]), std::fabs(p[2]), std::fabs(p[3]), std::fabs(p[4]), std::fabs(p[6]),
                                    std::fabs(p[7]), std::fabs(p[12]), std::fabs(p[13]), std::fabs(p[15])});
    if (!(std::fabs(std::fabs(w) - 1) < 1e-2 && others < 1e-2 && p[0] > 0.05 && p[5] > 0.05 && p[0] < 100 && p[5] < 100)) {
        return std::nullopt;
    }
    return Lens{p[0], p[5], p[8] / w, p[9] / w};
}

}  // namespace

std::string Match::flag() const {
    char text[64];
    if (proven) {
        std::snprintf(text, sizeof text, "sync matrices lag=%lld mm=%.2f mdeg=%.2f", lag, metres * 1000, degrees * 1000);
    } else {
        std::snprintf(text, sizeof text, "sync count lag=%lld", lag);
    }
    return text;
}

long long Lead::newest(std::uint64_t present, std::uint64_t tick) {
    const long long more = static_cast<long long>(tick) - static_cast<long long>(present);
    const auto most = [this] { return *std::max_element(more_.begin(), more_.end()); };
    // Presents without a tick, or ticks without a present (a window that was hidden), move it for good.
    if (!more_.empty() && std::llabs(more - most()) > JUMP) more_.clear();
    more_.push_back(more);
    if (more_.size() > LEAD_KEPT) more_.pop_front();
    return static_cast<long long>(present) + most();
}

Match Matcher::match(const std::vector<std::shared_ptr<const Snapshot>>& history, const std::vector<Constants>& constants,
                     long long newest) {
    Match found;
    if (history.empty()) return found;

    struct Fit {
        Distance distance;
        std::shared_ptr<const Snapshot> snapshot;
    };
    const float *best_matrix = nullptr, *begin = nullptr;
    bool column_vectors = false;
    std::vector<Fit> fits;  // of the best matrix, one for each tick
    double best = 1e9;
    for (const Constants& buffer : constants) {
        for (std::size_t at = 0; at + 16 <= buffer.count; at += 4) {
            for (const bool columns : {false, true}) {
                const std::optional<Rigid> matrix = rigid(buffer.data + at, columns);
                if (!matrix) continue;
                std::vector<Fit> own;
                double least = 1e9;
                for (const auto& one : history) {
                    const Distance d = distance(*matrix, one->camera, roll_sign_);
                    own.push_back({d, one});
                    if (d.metres < NEAR_METRES && d.degrees < NEAR_DEGREES) least = std::min(least, d.both());
                }
                if (least < best) {
                    best = least;
                    fits = std::move(own);
                    best_matrix = buffer.data + at;
                    begin = buffer.data;
                    column_vectors = columns;
                }
            }
        }
    }

    if (best_matrix != nullptr) {
        const Rigid matrix = *rigid(best_matrix, column_vectors);
        const auto as_good = [&](const Fit& fit) { return fit.distance.both() <= best + NOISE_FLOOR; };
        const auto nearly = [&](const Fit& fit) { return fit.distance.both() <= NOISE * best + NOISE_FLOOR; };
        found.proven = true;
        long long off = 1LL << 40;
        for (const Fit& fit : fits) {
            const long long from_usual = std::llabs(static_cast<long long>(fit.snapshot->tick) - (newest - lag_));
            if (!as_good(fit) || from_usual >= off) continue;  // a camera that stands still fits many ticks
            off = from_usual;
            found.snapshot = fit.snapshot;
            found.metres = fit.distance.metres;
            found.degrees = fit.distance.degrees;
        }
        // Only one fits, which shows while the camera moves.
        const bool unique = std::count_if(fits.begin(), fits.end(), nearly) == 1;
        if (unique) lag_ = newest - static_cast<long long>(found.snapshot->tick);
        const NativeCamera& camera = found.snapshot->camera;
        if (std::fabs(camera.roll) > 0.5) {
            const bool other = distance(matrix, camera, -roll_sign_).degrees < found.degrees;
            roll_votes_ = other ? roll_votes_ + 1 : std::max(0, roll_votes_ - 1);
            if (roll_votes_ > VOTES) {
                roll_sign_ = -roll_sign_;
                roll_votes_ = 0;
            }
        }
        if (!column_vectors) found.lens = lens(best_matrix, begin);
    } else {
        for (const auto& one : history) {
            found.snapshot = one;  // the oldest one where all are too new
            if (static_cast<long long>(one->tick) <= newest - lag_) break;
        }
    }
    found.lag = newest - static_cast<long long>(found.snapshot->tick);
    found.roll_sign = roll_sign_;
    return found;
}

}  // namespace realmaster
