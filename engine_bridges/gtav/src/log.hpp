// The log file, for people: one sentence a line.
#pragma once

#include <filesystem>
#include <fstream>
#include <mutex>
#include <string>

namespace realmaster {

class Log {
public:
    /// Goes on with the file; a long one is put aside first.
    explicit Log(const std::filesystem::path& path);

    /// From any thread.
    void line(const std::string& sentence);

private:
    std::mutex mutex_;
    std::ofstream file_;
};

}  // namespace realmaster
