#include "shared_memory.hpp"

#include <cstdio>
#include <cstring>
#include <limits>

#ifdef _WIN32
#include <windows.h>
#elif defined(__linux__)
#include <cerrno>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

namespace realmaster {
namespace {

constexpr std::size_t page = 4096, key_bytes = 32;

/// Whether it has the form /proc/PID/fd/N: whoever offers must not make us open just anything.
[[maybe_unused]] bool is_process_file(const std::string& name) {
    int process = 0, number = 0, end = 0;
    return std::sscanf(name.c_str(), "/proc/%9d/fd/%9d%n", &process, &number, &end) == 2 &&
           static_cast<std::size_t>(end) == name.size();
}

#ifdef _WIN32
/// The memory of that name, as Windows shares it; or, under Wine, as the Linux around it does.
HANDLE open_section(const std::string& name, std::size_t size) {
    if (name.rfind("Local\\", 0) == 0) return OpenFileMappingA(FILE_MAP_READ | FILE_MAP_WRITE, FALSE, name.c_str());
    const HANDLE file = CreateFileA(("\\\\?\\unix" + name).c_str(), GENERIC_READ | GENERIC_WRITE,
                                    FILE_SHARE_READ | FILE_SHARE_WRITE, nullptr, OPEN_EXISTING, 0, nullptr);
    if (file == INVALID_HANDLE_VALUE) return nullptr;
    LARGE_INTEGER bytes{};
    const bool fits = GetFileType(file) == FILE_TYPE_DISK && GetFileSizeEx(file, &bytes) &&
                      static_cast<std::uint64_t>(bytes.QuadPart) == size;
    const HANDLE section = fits ? CreateFileMappingA(file, nullptr, PAGE_READWRITE, 0, 0, nullptr) : nullptr;
    CloseHandle(file);
    return section;
}
#endif

/// The whole mapping, or nullptr and the reason.
void* map([[maybe_unused]] const std::string& name, [[maybe_unused]] std::size_t size, std::string& problem) {
#ifdef _WIN32
    const bool under_wine = GetProcAddress(GetModuleHandleA("ntdll.dll"), "wine_get_version") != nullptr;
    if (name.rfind("Local\\", 0) != 0 && !(under_wine && is_process_file(name))) {
        problem = "its name is not one of this system";
        return nullptr;
    }
    const HANDLE section = open_section(name, size);
    if (section == nullptr) {
        problem = "it is not there";
        return nullptr;
    }
    void* address = MapViewOfFile(section, FILE_MAP_READ | FILE_MAP_WRITE, 0, 0, size);
    CloseHandle(section);
    if (address == nullptr) problem = "it cannot be mapped";
    return address;
#elif defined(__linux__)
    if (!is_process_file(name)) {
        problem = "its name is not one of this system";
        return nullptr;
    }
    const int file = open(name.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (file < 0) {
        problem = std::strerror(errno);
        return nullptr;
    }
    struct stat info;
    void* address = nullptr;
    if (fstat(file, &info) != 0 || !S_ISREG(info.st_mode) || static_cast<std::uint64_t>(info.st_size) != size) {
        problem = "what lies there is no memory of the size that was offered";
    } else {
        address = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        if (address == MAP_FAILED) {
            problem = std::strerror(errno);
            address = nullptr;
        }
    }
    close(file);
    return address;
#else
    problem = "this system has none";
    return nullptr;
#endif
}

void unmap([[maybe_unused]] void* address, [[maybe_unused]] std::size_t size) {
#ifdef _WIN32
    UnmapViewOfFile(address);
#elif defined(__linux__)
    munmap(address, size);
#endif
}

}  // namespace

bool SharedMemory::possible() {
#if defined(_WIN32) || defined(__linux__)
    return true;
#else
    return false;
#endif
}

std::shared_ptr<SharedMemory> SharedMemory::attach(const std::string& name, const std::string& key,
                                                   std::uint64_t slots, std::uint64_t slot_bytes,
                                                   std::string& problem) {
    const std::uint64_t most = std::numeric_limits<std::size_t>::max() / 2;
    std::string why;
    void* address = nullptr;
    if (slots < 1 || slots > 65536 || slot_bytes < 1 || slot_bytes > (most - page) / slots) {
        why = "so many slots of so many bytes cannot be";
    } else {
        address = map(name, page + static_cast<std::size_t>(slots * slot_bytes), why);
    }
    if (address != nullptr) {
        std::shared_ptr<SharedMemory> memory(new SharedMemory(address, page + static_cast<std::size_t>(slots * slot_bytes),
                                                              static_cast<std::size_t>(slots),
                                                              static_cast<std::size_t>(slot_bytes)));
        if (key.size() == key_bytes && std::memcmp(address, key.data(), key_bytes) == 0) return memory;
        why = "what lies there is other memory than was offered";
    }
    problem = "The shared memory cannot be attached (" + why + ").";
    return nullptr;
}

SharedMemory::SharedMemory(void* address, std::size_t size, std::size_t slots, std::size_t slot_bytes)
    : address_(address), size_(size), slot_bytes_(slot_bytes) {
    for (std::size_t number = slots; number > 0; --number) free_.push_back(static_cast<int>(number - 1));
}

SharedMemory::~SharedMemory() { unmap(address_, size_); }

unsigned char* SharedMemory::slot(std::size_t number) const {
    return static_cast<unsigned char*>(address_) + page + number * slot_bytes_;
}

int SharedMemory::take() {
    if (free_.empty()) return -1;
    const int slot = free_.back();
    free_.pop_back();
    return slot;
}

void SharedMemory::give_back(int slot) { free_.push_back(slot); }

}  // namespace realmaster
