// The world of the fake game: boxes, some of which move, a camera that sways, and the answers of the natives.
//
// Works on numbers only; knows nothing of Direct3D. Everything follows from the number of the step.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace scene {

struct Vec {
    double x = 0, y = 0, z = 0;
};

struct Pose {
    Vec right{1, 0, 0}, forward{0, 1, 0}, up{0, 0, 1}, at;
};

/// Rotation by the game's order 2, degrees: about x pitch, y roll, z yaw.
Pose rotated(double pitch, double roll, double yaw);

struct Box {
    int handle = 0;
    int kind = -1;  // 0 vehicle, 1 person, 2 object, -1 part of the map
    std::uint8_t stencil = 0;
    Vec color, half;
    Pose pose;
    Vec velocity;
};

struct Camera {
    Pose pose;
    double pitch = 0, roll = 0, yaw = 0;  // degrees
    double fov = 50, near_clip = 0.15, far_clip = 10003.814;
};

struct State {
    int step = 0;  // of the world; stands still while the game is paused
    int width = 0, height = 0;
    Camera camera;
    std::vector<Box> boxes;
    bool hud = true;
};

struct Options {
    unsigned seed = 1;
    double roll_degrees = 2;
    double still = 0;  // 1: the camera does not move
};

constexpr double STEP_SECONDS = 0.04;

State at(int step, const Options& options);

/// One line of JSON: what is where at that step.
std::string describe(const State& state);

}  // namespace scene
