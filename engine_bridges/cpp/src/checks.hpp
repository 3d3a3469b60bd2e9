// What the daemon would refuse of a frame, found before it costs the session. Works on cameras and poses.
#pragma once

#include <array>
#include <string>

#include "realmaster/sender.hpp"

namespace realmaster {

/// What is wrong with a pose, as the rest of a sentence, or an empty text; the same bounds as the daemon's.
std::string pose_problem(const std::array<double, 16>& pose, const std::string& what);

/// What is wrong with a camera in a session with these axes, or an empty text.
std::string camera_problem(const Camera& camera, const Axes& world, const Axes& camera_axes);

/// What is wrong with an entity, or an empty text.
std::string entity_problem(const Entity& entity);

}  // namespace realmaster
