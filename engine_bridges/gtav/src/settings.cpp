#include "settings.hpp"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <map>

namespace realmaster {
namespace {

std::string trimmed(const std::string& text) {
    const std::size_t from = text.find_first_not_of(" \t\r"), to = text.find_last_not_of(" \t\r");
    return from == std::string::npos ? "" : text.substr(from, to - from + 1);
}

bool number(const std::string& text, double least, double most, double& into) {
    char* end = nullptr;
    const double value = std::strtod(text.c_str(), &end);
    if (text.empty() || *end != 0 || !(value >= least && value <= most)) return false;
    into = value;
    return true;
}

bool whole(const std::string& text, int least, int most, int& into) {
    double value = 0;
    if (!number(text, least, most, value) || value != static_cast<int>(value)) return false;
    into = static_cast<int>(value);
    return true;
}

bool yes_or_no(const std::string& text, bool& into) {
    if (text != "yes" && text != "no") return false;
    into = text == "yes";
    return true;
}

/// "F1" to "F24", a letter or digit, or "none".
bool key(const std::string& text, int& into) {
    if (text == "none") {
        into = 0;
    } else if (text.size() == 1 && ((text[0] >= 'A' && text[0] <= 'Z') || (text[0] >= '0' && text[0] <= '9'))) {
        into = text[0];
    } else {
        int which = 0;
        if (text.size() < 2 || text[0] != 'F' || !whole(text.substr(1), 1, 24, which)) return false;
        into = 0x6F + which;
    }
    return true;
}

}  // namespace

Settings Settings::read(const std::filesystem::path& path, std::vector<std::string>& problems) {
    Settings all;
    struct Setting {
        std::string expected;
        std::function<bool(const std::string&)> take;
    };
    const auto switched = [](bool& into) {
        return Setting{"yes or no", [&into](const std::string& text) { return yes_or_no(text, into); }};
    };
    const auto counted = [](int& into, int least, int most) {
        return Setting{"a whole number from " + std::to_string(least) + " to " + std::to_string(most),
                       [&into, least, most](const std::string& text) { return whole(text, least, most, into); }};
    };
    const auto keyed = [](int& into) {
        return Setting{"F1 to F24, a letter, a digit or none", [&into](const std::string& text) { return key(text, into); }};
    };
    const std::map<std::string, Setting> known{
        {"mode", {"live, take or lossless", [&all](const std::string& text) {
             if (text != "live" && text != "take" && text != "lossless") return false;
             all.mode = text == "live" ? Mode::live : text == "take" ? Mode::take : Mode::lossless;
             return true;
         }}},
        {"fps", {"a number from 0 to 1000", [&all](const std::string& text) { return number(text, 0, 1000, all.fps); }}},
        {"entity_metres", {"a number from 0 to 1000", [&all](const std::string& text) {
             return number(text, 0, 1000, all.entity_metres);
         }}},
        {"endpoint", {"", [&all](const std::string& text) { return all.endpoint = text, true; }}},
        {"scale", counted(all.scale, 1, 4)},
        {"entities", counted(all.entities, 0, 128)},
        {"lag", counted(all.lag, 0, 3)},
        {"normals", switched(all.normals)},
        {"segmentation", switched(all.segmentation)},
        {"albedo", switched(all.albedo)},
        {"hide_hud", switched(all.hide_hud)},
        {"foreign_hooks", switched(all.foreign_hooks)},
        {"key_take", keyed(all.key_take)},
        {"key_replay", keyed(all.key_replay)},
        {"key_hud", keyed(all.key_hud)},
        {"key_dump", keyed(all.key_dump)},
    };
    std::ifstream file(path, std::ios::binary);
    int at = 0;
    for (std::string line; std::getline(file, line);) {
        ++at;
        if (at == 1 && line.rfind("\xEF\xBB\xBF", 0) == 0) line.erase(0, 3);
        line = trimmed(line.substr(0, line.find(';')));
        if (line.empty() || line[0] == '#' || line[0] == '[') continue;
        const std::string where = "realmaster.ini, line " + std::to_string(at) + ": ";
        const std::size_t equals = line.find('=');
        const std::string name = trimmed(line.substr(0, equals));
        const auto setting = known.find(name);
        if (equals == std::string::npos) {
            problems.push_back(where + "a line has the form name = value; it is ignored.");
        } else if (setting == known.end()) {
            problems.push_back(where + "there is no setting " + name + "; it is ignored.");
        } else if (!setting->second.take(trimmed(line.substr(equals + 1)))) {
            problems.push_back(where + name + " must be " + setting->second.expected + "; the default is used.");
        }
    }
    return all;
}

}  // namespace realmaster
