#include "scene.hpp"

#include <cmath>
#include <cstdio>

namespace scene {
namespace {

constexpr double DEGREE = 3.14159265358979323846 / 180;
constexpr Vec ORIGIN{1210, -640, 31};  // as far from zero as places in the game are
constexpr int BUILDINGS = 14, TREES = 8, VEHICLES = 6, PEOPLE = 7;

class Random {
public:
    explicit Random(unsigned seed) : state_(seed * 2654435761u + 12345u) {}
    double operator()(double low, double high) {
        state_ = state_ * 1664525u + 1013904223u;
        return low + (high - low) * (state_ >> 8) / 16777216.0;
    }

private:
    std::uint32_t state_;
};

Box box(int handle, int kind, int stencil, Vec color, Vec half, Vec at, double yaw, double pitch = 0) {
    Box made;
    made.handle = handle;
    made.kind = kind;
    made.stencil = static_cast<std::uint8_t>(stencil);
    made.color = color;
    made.half = half;
    made.pose = rotated(pitch, 0, yaw);
    made.pose.at = {ORIGIN.x + at.x, ORIGIN.y + at.y, ORIGIN.z + at.z};
    return made;
}

std::string list(const Vec& v) {
    char text[96];
    std::snprintf(text, sizeof text, "[%.9g,%.9g,%.9g]", v.x, v.y, v.z);
    return text;
}

}  // namespace

Pose rotated(double pitch, double roll, double yaw) {
    const double cx = std::cos(pitch * DEGREE), sx = std::sin(pitch * DEGREE), cy = std::cos(roll * DEGREE),
                 sy = std::sin(roll * DEGREE), cz = std::cos(yaw * DEGREE), sz = std::sin(yaw * DEGREE);
    // Columns of Rz(yaw) Rx(pitch) Ry(roll).
    Pose pose;
    pose.right = {cz * cy - sz * sx * sy, sz * cy + cz * sx * sy, -cx * sy};
    pose.forward = {-sz * cx, cz * cx, sx};
    pose.up = {cz * sy + sz * sx * cy, sz * sy - cz * sx * cy, cx * cy};
    return pose;
}

State at(int step, const Options& options) {
    State state;
    state.step = step;
    const double t = step * STEP_SECONDS, u = options.still > 0 ? 0 : t;
    Random random(options.seed);
    int handle = 257;

    state.boxes.push_back(box(0, -1, 4, {0.35, 0.4, 0.3}, {400, 400, 1}, {0, 0, -1}, 0));
    for (int i = 0; i < BUILDINGS; ++i) {
        const double angle = i * 2 * 3.14159265 / BUILDINGS + random(-0.15, 0.15), far = random(30, 70), high = random(3, 14);
        state.boxes.push_back(box(0, -1, 0, {random(0.2, 0.9), random(0.2, 0.9), random(0.2, 0.9)},
                                  {random(2, 6), random(2, 6), high}, {far * std::cos(angle), far * std::sin(angle), high},
                                  random(0, 90)));
    }
    for (int i = 0; i < TREES; ++i) {
        const double angle = random(0, 6.28), far = random(3, 11);
        state.boxes.push_back(box(handle++, 2, 3, {0.1, random(0.4, 0.8), 0.1}, {0.5, 0.5, 1.7},
                                  {far * std::cos(angle), far * std::sin(angle), 1.7}, random(0, 90), random(-12, 12)));
    }
    for (int i = 0; i < VEHICLES + 1; ++i) {
        const bool own = i == VEHICLES;  // the player's car stands in the middle
        const double angle = random(0, 6.28), far = own ? 1 : random(4, 13), speed = own ? 0 : random(-0.35, 0.35);
        const double now = angle + speed * t;
        Box car = box(handle++, 0, own ? 130 : 2, {random(0.3, 1), random(0.1, 0.6), random(0.1, 0.9)}, {0.9, 2.1, 0.7},
                      {far * std::cos(now), far * std::sin(now), 0.8}, now / DEGREE);
        car.velocity = {-far * speed * std::sin(now), far * speed * std::cos(now), 0};
        state.boxes.push_back(car);
    }
    for (int i = 0; i < PEOPLE + 1; ++i) {
        const bool player = i == PEOPLE;
        const double angle = random(0, 6.28), far = player ? 3 : random(4, 11), speed = player ? 0.2 : random(-0.3, 0.3);
        const double now = angle + speed * t;
        Box person = box(handle++, 1, player ? 129 : 1, {random(0.5, 1), random(0.3, 0.7), random(0.2, 0.6)},
                         {0.28, 0.2, 0.9}, {far * std::cos(now), far * std::sin(now), 0.9}, now / DEGREE);
        person.velocity = {-far * speed * std::sin(now), far * speed * std::cos(now), 0};
        state.boxes.push_back(person);
    }

    Camera& camera = state.camera;
    const double around = 0.3 * u + 0.22 * std::sin(2.3 * u) + options.seed, far = 15 + 1.5 * std::sin(1.7 * u);
    camera.pitch = -9 + 3 * std::sin(1.3 * u);
    camera.roll = options.roll_degrees * std::sin(0.9 * u + 1);
    camera.yaw = std::fmod(around / DEGREE + 90 + 7 * std::sin(1.9 * u), 360);
    if (camera.yaw > 180) camera.yaw -= 360;
    camera.fov = 50 + 3 * std::sin(0.8 * u);
    camera.pose = rotated(camera.pitch, camera.roll, camera.yaw);
    camera.pose.at = {ORIGIN.x + far * std::cos(around), ORIGIN.y + far * std::sin(around),
                      ORIGIN.z + 2.6 + 0.4 * std::sin(2.1 * u)};
    return state;
}

std::string describe(const State& state) {
    const Camera& camera = state.camera;
    char text[512];
    std::snprintf(text, sizeof text,
                  "{\"step\":%d,\"width\":%d,\"height\":%d,\"fov\":%.9g,\"near\":%.9g,\"far\":%.9g,\"roll\":%.9g,", state.step,
                  state.width, state.height, camera.fov, camera.near_clip, camera.far_clip, camera.roll);
    std::string line = text;
    const auto pose = [](const Pose& p) {
        return "[" + list(p.right) + "," + list(p.forward) + "," + list(p.up) + "," + list(p.at) + "]";
    };
    line += "\"camera\":" + pose(camera.pose) + ",\"boxes\":[";
    for (const Box& one : state.boxes) {
        if (&one != &state.boxes.front()) line += ",";
        line += "{\"handle\":" + std::to_string(one.handle) + ",\"kind\":" + std::to_string(one.kind) + ",\"stencil\":" +
                std::to_string(one.stencil) + ",\"half\":" + list(one.half) + ",\"pose\":" + pose(one.pose) +
                ",\"velocity\":" + list(one.velocity) + "}";
    }
    return line + "]}";
}

}  // namespace scene
