#include "checks.hpp"

#include <algorithm>
#include <cmath>

namespace realmaster {
namespace {

double determinant(const std::array<double, 16>& m) {
    return m[0] * (m[5] * m[10] - m[6] * m[9]) - m[1] * (m[4] * m[10] - m[6] * m[8]) +
           m[2] * (m[4] * m[9] - m[5] * m[8]);
}

/// 1 for right-handed axes, -1 for left-handed ones, 0 for what are no axes.
int handedness(const Axes& axes) {
    std::array<double, 16> basis{};
    const std::string* roles[] = {&axes.right, &axes.up, &axes.forward};
    for (std::size_t row = 0; row < 3; ++row) {
        const std::string& letter = *roles[row];
        if (letter.size() != 2 || letter[1] < 'x' || letter[1] > 'z') return 0;
        const double sign = (letter[0] == '-' ? -1 : 1) * (row == 1 ? -1 : 1);  // up is minus OpenCV's y
        basis[4 * row + static_cast<std::size_t>(letter[1] - 'x')] = sign;
    }
    return static_cast<int>(determinant(basis));
}

}  // namespace

std::string pose_problem(const std::array<double, 16>& m, const std::string& what) {
    for (double value : m) {
        if (!std::isfinite(value)) return what + " contains a value that is not finite";
    }
    for (std::size_t i = 0; i < 4; ++i) {
        if (std::fabs(m[12 + i] - (i == 3)) > 1e-6) return "the last row of " + what + " is not 0 0 0 1";
    }
    for (std::size_t i = 0; i < 3; ++i) {
        for (std::size_t j = 0; j < 3; ++j) {
            double product = 0;
            for (std::size_t k = 0; k < 3; ++k) product += m[4 * i + k] * m[4 * j + k];
            if (!(std::fabs(product - (i == j)) <= 1e-3)) return "the rotation of " + what + " is not orthonormal";
        }
    }
    return "";
}

std::string camera_problem(const Camera& camera, const Axes& world, const Axes& camera_axes) {
    for (double value : {camera.fx, camera.fy, camera.cx, camera.cy, camera.near_clip}) {
        if (!std::isfinite(value)) return "the camera has a number that is not finite";
    }
    if (camera.fx <= 0 || camera.fy <= 0) return "the camera's fx and fy are not positive pixels";
    if (!(0 < camera.near_clip && camera.near_clip < camera.far_clip)) return "the camera needs 0 < near < far";
    std::string problem = pose_problem(camera.pose, "the camera pose");
    const int expected = handedness(world) * handedness(camera_axes);
    if (problem.empty() && expected * determinant(camera.pose) < 0) {
        problem = "the camera pose does not fit the handedness of the session's axes";
    }
    return problem;
}

std::string entity_problem(const Entity& entity) {
    const std::string who = "entity " + std::to_string(entity.id);
    for (const auto& three : {entity.size, entity.velocity}) {
        if (three && !std::all_of(three->begin(), three->end(), [](double v) { return std::isfinite(v); })) {
            return who + " has a number that is not finite";
        }
    }
    return entity.pose ? pose_problem(*entity.pose, "the pose of " + who) : "";
}

}  // namespace realmaster
