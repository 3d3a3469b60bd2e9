// A thread that can be joined where Windows unloads a library.
//
// There the joining thread holds the loader's lock, for which an ending thread waits: joining it would never end. So the
// thread does not end by itself. It says that it is done and goes to sleep inside the system, which it does in one
// step, and whoever joins it removes it there, where it holds nothing and no longer needs our code.
#pragma once

#ifndef _WIN32

#include <thread>

namespace realmaster {
using Thread = std::thread;
}

#else

#include <windows.h>

#include <functional>
#include <stdexcept>
#include <utility>

namespace realmaster {

class Thread {
public:
    Thread() = default;
    explicit Thread(std::function<void()> work) : own_(new Own{std::move(work)}) {
        own_->done = CreateEventW(nullptr, TRUE, FALSE, nullptr);
        own_->never = CreateEventW(nullptr, TRUE, FALSE, nullptr);
        own_->thread = CreateThread(nullptr, 0, run, own_, 0, nullptr);
        if (!own_->thread) {
            close();
            throw std::runtime_error("Windows starts no thread");
        }
    }
    Thread(Thread&& other) noexcept : own_(std::exchange(other.own_, nullptr)) {}
    Thread& operator=(Thread&& other) noexcept {
        std::swap(own_, other.own_);
        return *this;
    }
    ~Thread() {
        if (joinable()) join();
    }

    bool joinable() const { return own_ != nullptr; }

    void join() {
        WaitForSingleObject(own_->done, patience_ms);  // not for ever: it may wait for the lock that we hold
        TerminateThread(own_->thread, 0);
        close();
    }

private:
    static constexpr DWORD patience_ms = 10000;

    struct Own {
        std::function<void()> work;
        HANDLE done = nullptr, never = nullptr, thread = nullptr;
    };

    static DWORD WINAPI run(void* given) {
        Own* own = static_cast<Own*>(given);
        own->work();
        return SignalObjectAndWait(own->done, own->never, INFINITE, FALSE);
    }

    void close() {
        for (HANDLE handle : {own_->done, own_->never, own_->thread}) {
            if (handle) CloseHandle(handle);
        }
        delete std::exchange(own_, nullptr);
    }

    Own* own_ = nullptr;
};

}  // namespace realmaster

#endif
