#include "connection.hpp"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <vector>

#include "json.hpp"

#ifndef _WIN32
#include <unistd.h>
#endif

namespace realmaster {
namespace {

namespace fs = std::filesystem;

fs::path folder_in(const char* variable) {
#ifdef _WIN32
    const wchar_t* value = _wgetenv(fs::path(variable).wstring().c_str());
    return value ? fs::path(value) : fs::path();
#else
    return fs::path(environment(variable));
#endif
}

/// Where the connection file may be; the first one that exists counts.
std::vector<fs::path> runtime_folders() {
    if (fs::path chosen = folder_in("REALMASTER_RUNTIME_DIR"); !chosen.empty()) return {chosen};
#ifdef _WIN32
    return {folder_in("LOCALAPPDATA") / "Temp" / "realmaster"};
#elif defined(__APPLE__)
    return {folder_in("HOME") / "Library" / "Caches" / "TemporaryItems" / "realmaster"};
#else
    const std::string user = std::to_string(geteuid());
    fs::path temporary = folder_in("TMPDIR").empty() ? fs::path("/tmp") : folder_in("TMPDIR");
    std::vector<fs::path> folders{fs::path("/run/user") / user / "realmaster",
                                  temporary / ("runtime-" + user) / "realmaster"};
    if (fs::path session = folder_in("XDG_RUNTIME_DIR"); !session.empty()) {
        folders.insert(folders.begin(), session / "realmaster");
    }
    return folders;
#endif
}

}  // namespace

std::string environment(const char* name) {
    const char* value = std::getenv(name);
    return value ? value : "";
}

int endpoint_port(const std::string& endpoint) {
    static const std::regex form(R"(tcp://([^\s/:]+|\[[^\s/\]]+\]):(\d{1,5}))");
    std::smatch match;
    if (!std::regex_match(endpoint, match, form)) return 0;
    int port = std::stoi(match[2]);
    return port <= 65535 ? port : 0;
}

Token read_token(const std::string& endpoint) {
    for (const fs::path& folder : runtime_folders()) {
        const fs::path path = folder / ("daemon-" + std::to_string(endpoint_port(endpoint)) + ".json");
        std::ifstream file(path, std::ios::binary);
        if (!file) continue;
        const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
        if (std::optional<Value> values = parse_json(text)) {
            const Value* token = find(*values, "token");
            if (token && std::get_if<std::string>(token)) return {std::get<std::string>(*token), ""};
        }
        return {"", "The connection file " + path.u8string() + " is damaged: restart the daemon to renew it."};
    }
    return {"", "No daemon has left a connection file for " + endpoint +
                    ": start one with `realmaster daemon`, or set REALMASTER_TOKEN."};
}

}  // namespace realmaster
