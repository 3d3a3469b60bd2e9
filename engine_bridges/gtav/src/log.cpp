#include "log.hpp"

#include <windows.h>

#include <cstdint>
#include <cstdio>
#include <system_error>

namespace realmaster {
namespace {

constexpr std::uintmax_t LONG = 1 << 20;

}  // namespace

Log::Log(const std::filesystem::path& path) {
    std::error_code error;
    if (std::filesystem::file_size(path, error) > LONG && !error) {
        std::filesystem::path old = path;
        std::filesystem::rename(path, old.replace_extension(".old.log"), error);
    }
    file_.open(path, std::ios::app | std::ios::binary);
}

void Log::line(const std::string& sentence) {
    SYSTEMTIME now;
    GetLocalTime(&now);
    char stamp[40];
    std::snprintf(stamp, sizeof stamp, "%04u-%02u-%02u %02u:%02u:%02u.%03u  ", now.wYear, now.wMonth, now.wDay, now.wHour,
                  now.wMinute, now.wSecond, now.wMilliseconds);
    const std::lock_guard<std::mutex> lock(mutex_);
    file_ << stamp << sentence << "\r\n" << std::flush;
}

}  // namespace realmaster
