// The connection to the daemon: one ZeroMQ DEALER socket, what its monitor tells, and a bell to wake who waits for both.
//
// Works on message parts as bytes; knows nothing of what they say. All methods but `wake` belong to one thread.
// link.cpp has it from libzmq; on Windows link_windows.cpp speaks ZeroMQ's protocol itself.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace realmaster {

class Link {
public:
    /// A run of bytes that ZeroMQ reads in place.
    struct Run {
        void* data;
        std::size_t size;
    };

    Link();
    ~Link();

    /// Connects, now or whenever somebody listens at `endpoint`; an empty text, or why there are no sockets.
    std::string open(const std::string& endpoint);
    /// Ends the connection; what is still to be sent has half a second. Every run has been let go when it returns.
    void shut();

    /// Waits for something to read, for `wake`, or for so long.
    void wait(int milliseconds);
    /// From any thread: ends the present or the next `wait`. Waits for nothing.
    void wake();

    /// The parts of the next message; false when there is none.
    bool receive(std::vector<std::string>& parts);
    /// What became of the connection, one piece of news at a time: true, it is there; false, it is gone.
    std::optional<bool> news();

    // Hand over a message without waiting; false when there is no connection or no room. `let_go` is called once for
    // each run, from any thread, when ZeroMQ has read it; not when the message was not taken.
    bool send(const std::string& message);
    bool send(const std::string& header, const std::vector<Run>& runs, void (*let_go)(void*, void*), void* hint);

    Link(const Link&) = delete;
    Link& operator=(const Link&) = delete;

private:
#ifdef _WIN32
    struct Impl;
    std::unique_ptr<Impl> impl_;
#else
    void* context_ = nullptr;
    void* socket_ = nullptr;
    void* monitor_ = nullptr;
    void* bell_ = nullptr;  // what `wake` rings
    std::mutex rope_mutex_;
    void* rope_ = nullptr;  // by what it rings; under rope_mutex_
    std::atomic<bool> rung_{false};
#endif
};

}  // namespace realmaster
