#include "snapshot.hpp"

#include <cmath>

namespace realmaster {
namespace {

constexpr std::size_t KEPT = 64;
constexpr double DEGREE = 3.14159265358979323846 / 180;

}  // namespace

std::array<double, 16> NativeCamera::pose(int roll_sign) const {
    const double a = pitch * DEGREE, b = roll * roll_sign * DEGREE, c = yaw * DEGREE;
    const double ca = std::cos(a), sa = std::sin(a), cb = std::cos(b), sb = std::sin(b), cc = std::cos(c), sc = std::sin(c);
    return {cc * cb - sc * sa * sb, -sc * ca, cc * sb + sc * sa * cb, x,
            sc * cb + cc * sa * sb, cc * ca,  sc * sb - cc * sa * cb, y,
            -ca * sb,               sa,       ca * cb,                z,
            0,                      0,        0,                      1};
}

void History::add(std::shared_ptr<const Snapshot> snapshot) {
    const std::lock_guard<std::mutex> lock(mutex_);
    last_.push_front(std::move(snapshot));
    if (last_.size() > KEPT) last_.pop_back();
}

std::uint64_t History::newest() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return last_.empty() ? 0 : last_.front()->tick;
}

std::vector<std::shared_ptr<const Snapshot>> History::all() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return {last_.begin(), last_.end()};
}

}  // namespace realmaster
