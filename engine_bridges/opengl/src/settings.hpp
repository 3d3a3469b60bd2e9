// What whoever starts the game tells the library: the environment contract.
//
//   REALMASTER_ENDPOINT, REALMASTER_TOKEN, REALMASTER_GIVE_UP_AFTER   the daemon: engine_bridges/PROTOCOL.md
//   REALMASTER_GL                  0: loaded, but does nothing
//   REALMASTER_GL_MODE             live (default): frames are dropped rather than waited for | lossless: the game waits
//   REALMASTER_GL_FPS              capture at most so many frames a second, 0: every buffer swap; by default 24 in mode
//                                  live, 0 in mode lossless
//   REALMASTER_GL_VFOV             declared vertical field of view in degrees, where the projection cannot be read
//   REALMASTER_GL_NEAR, _FAR       declared clip distances in engine units, likewise
//   REALMASTER_GL_METRES_PER_UNIT  length of the engine's unit; unset: the depth's scale is unknown
//   REALMASTER_GL_GAME             the game's name; unset: the name of its program
//   REALMASTER_GL_HUDLESS          0: no color_hudless, which spares one read-back a frame
//   REALMASTER_GL_WAIT             seconds to wait for a 3-D scene before frames are sent without depth; default 60
//   REALMASTER_GL_KEY_RECORD       key that starts and ends a take (an X11 key name); default F9; "none": no key
//   REALMASTER_GL_KEY_REPLAY       key that saves the replay; default F10
//   REALMASTER_GL_VERBOSE          1: says on stderr how the scene was found
#pragma once

#include <optional>
#include <string>

namespace realmaster {

struct Settings {
    bool enabled = true;
    bool lossless = false;
    double fps = 24;  // 0: every buffer swap
    std::optional<double> vfov;  // radians
    std::optional<double> near, far, metres_per_unit;
    std::string game;
    bool hudless = true;
    double wait = 60;  // seconds
    std::string key_record = "F9", key_replay = "F10";
    bool verbose = false;
};

// Read once, at the first call.
const Settings& settings();

// One sentence on the game's stderr, after "realmaster: ".
void say(const std::string& sentence);

// Likewise, when REALMASTER_GL_VERBOSE is set.
void whisper(const std::string& sentence);

// Seconds of the monotonic clock.
double now();

}  // namespace realmaster
