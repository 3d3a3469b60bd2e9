// Which tick of the script was rendered: the camera that the natives told in it against the matrices that the renderer had
// bound. And what else those matrices say: the lens.
//
// Works on numbers; knows nothing of Direct3D or ScriptHookV.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "snapshot.hpp"

namespace realmaster {

/// The start of one constant buffer.
struct Constants {
    const float* data = nullptr;
    std::size_t count = 0;  // of floats
};

/// What a projection matrix says, for a picture of one unit's half width and height.
struct Lens {
    double fx = 1, fy = 1;  // focal lengths in half widths and half heights
    double sx = 0, sy = 0;  // how far the optical axis is from the middle, likewise, to the right and up
};

struct Match {
    std::shared_ptr<const Snapshot> snapshot;  // nullptr: there is none at all
    bool proven = false;   // by matrices; else by count
    double metres = 0;     // between the two cameras' places, when proven
    double degrees = 0;    // between their directions, likewise
    long long lag = 0;     // ticks between the newest camera and this one
    int roll_sign = 1;
    std::optional<Lens> lens;

    /// The proof in words, as a frame's flag.
    std::string flag() const;
    /// Whether the two cameras are one: else something is wrong with natives or matrices.
    bool agrees() const { return !proven || (metres < 0.05 && degrees < 0.2); }
};

/// How far the script is ahead of the renderer.
///
/// It runs ahead until it must wait for the renderer, which is always the same number of ticks, and falls behind that now
/// and then: so what counts is the most by which the ticks have lately been more than the presents.
class Lead {
public:
    /// At every present: its number and the newest tick. The result: the tick that is the newest one when the script is
    /// not behind.
    long long newest(std::uint64_t present, std::uint64_t tick);

private:
    std::deque<long long> more_;
};

class Matcher {
public:
    /// lag: ticks between the newest camera and the one that is presented, until that was measured.
    explicit Matcher(int lag) : lag_(lag) {}

    /// `newest` is what `Lead` said when the frame was presented.
    Match match(const std::vector<std::shared_ptr<const Snapshot>>& history, const std::vector<Constants>& constants,
                long long newest);

private:
    long long lag_;
    int roll_sign_ = 1;
    int roll_votes_ = 0;
};

}  // namespace realmaster
