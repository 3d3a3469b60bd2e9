// What realmaster.ini says. The file that is delivered along explains every setting.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace realmaster {

enum class Mode {
    live,      // frames are sent all the time, and dropped rather than waited for
    take,      // likewise, but only while a take is recorded
    lossless,  // the game stands still until each frame is taken
};

struct Settings {
    Mode mode = Mode::live;
    double fps = 30;  // frames sent a second, at most; 0: every one
    int scale = 1;    // one of so many pixels is sent, each way
    bool normals = true, segmentation = true, albedo = false;
    int entities = 48;           // the nearest ones
    double entity_metres = 80;   // from the camera
    bool hide_hud = false;
    int lag = 1;                 // ticks between a present and the newest camera, where that cannot be measured
    bool foreign_hooks = false;  // go on where another program has hooked Direct3D first
    int key_take = 0x78, key_replay = 0x79, key_hud = 0x7A, key_dump = 0x77;  // virtual key codes: F9 F10 F11 F8; 0: none
    std::string endpoint;        // empty: the usual one

    /// Reads the file. A missing one means the defaults; sentences about what is wrong with it go to `problems`.
    static Settings read(const std::filesystem::path& path, std::vector<std::string>& problems);
};

}  // namespace realmaster
