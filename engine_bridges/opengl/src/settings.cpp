#include "settings.hpp"

#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <ctime>

namespace realmaster {
namespace {

std::string text(const char* name) {
    const char* value = std::getenv(name);
    return value == nullptr ? std::string() : std::string(value);
}

// A number in a range; a sentence and nullopt for anything else.
std::optional<double> number(const char* name, double least, double most) {
    const std::string value = text(name);
    if (value.empty()) return std::nullopt;
    char* end = nullptr;
    const double parsed = std::strtod(value.c_str(), &end);
    if (*end == '\0' && parsed >= least && parsed <= most) return parsed;
    say(std::string(name) + " is \"" + value + "\", which is no number in its range, and is ignored.");
    return std::nullopt;
}

std::string program_name() {
    char path[4096];
    const ssize_t length = readlink("/proc/self/exe", path, sizeof path);
    if (length <= 0) return "game";
    const std::string whole(path, static_cast<std::size_t>(length));
    return whole.substr(whole.rfind('/') + 1);
}

Settings read() {
    Settings found;
    found.enabled = text("REALMASTER_GL") != "0";
    const std::string mode = text("REALMASTER_GL_MODE");
    found.lossless = mode == "lossless";
    if (!mode.empty() && mode != "live" && mode != "lossless") {
        say("REALMASTER_GL_MODE is \"" + mode + "\" but must be live or lossless; it is live.");
    }
    found.fps = number("REALMASTER_GL_FPS", 0, 1000).value_or(found.lossless ? 0 : found.fps);
    if (const auto degrees = number("REALMASTER_GL_VFOV", 1, 170)) found.vfov = *degrees * M_PI / 180;
    found.near = number("REALMASTER_GL_NEAR", 1e-9, 1e9);
    found.far = number("REALMASTER_GL_FAR", 1e-9, 1e12);
    found.metres_per_unit = number("REALMASTER_GL_METRES_PER_UNIT", 1e-9, 1e9);
    found.game = text("REALMASTER_GL_GAME");
    if (found.game.empty()) found.game = program_name();
    found.hudless = text("REALMASTER_GL_HUDLESS") != "0";
    found.wait = number("REALMASTER_GL_WAIT", 0, 1e6).value_or(found.wait);
    if (const std::string key = text("REALMASTER_GL_KEY_RECORD"); !key.empty()) found.key_record = key;
    if (const std::string key = text("REALMASTER_GL_KEY_REPLAY"); !key.empty()) found.key_replay = key;
    const std::string verbose = text("REALMASTER_GL_VERBOSE");
    found.verbose = !verbose.empty() && verbose != "0";
    return found;
}

}  // namespace

const Settings& settings() {
    static const Settings found = read();
    return found;
}

void say(const std::string& sentence) {
    const std::string line = "realmaster: " + sentence + "\n";
    // One write: lines of several threads and of the game do not mix. There is nobody to tell when it fails.
    [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, line.data(), line.size());
}

void whisper(const std::string& sentence) {
    if (settings().verbose) say(sentence);
}

double now() {
    timespec time{};
    clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

}  // namespace realmaster
