// Memory that the daemon offers for pixels: a page with a key, then slots of equal size, as PROTOCOL.md describes it.
//
// Works on one mapping and on which of its slots are free. Knows nothing of frames, credits or sockets.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace realmaster {

class SharedMemory {
public:
    /// Whether this system has such memory.
    static bool possible();

    /// Attaches what was offered. nullptr where that cannot be done, with one sentence in `problem`.
    static std::shared_ptr<SharedMemory> attach(const std::string& name, const std::string& key, std::uint64_t slots,
                                                std::uint64_t slot_bytes, std::string& problem);
    ~SharedMemory();

    std::size_t slot_bytes() const { return slot_bytes_; }
    unsigned char* slot(std::size_t number) const;

    /// Whether a slot is free. This and the next two are not for two threads at once.
    bool has_free() const { return !free_.empty(); }
    /// The number of a slot that is free, and taken from now on; -1 when there is none.
    int take();
    void give_back(int slot);

    SharedMemory(const SharedMemory&) = delete;
    SharedMemory& operator=(const SharedMemory&) = delete;

private:
    SharedMemory(void* address, std::size_t size, std::size_t slots, std::size_t slot_bytes);

    void* address_;
    std::size_t size_;
    std::size_t slot_bytes_;
    std::vector<int> free_;
};

}  // namespace realmaster
