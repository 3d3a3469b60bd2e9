// A COM interface that is held: released when it goes out of scope.
#pragma once

#include <utility>

namespace realmaster {

template <typename T>
class Com {
public:
    Com() = default;
    Com(const Com& other) : one_(other.one_) {
        if (one_) one_->AddRef();
    }
    Com(Com&& other) noexcept : one_(std::exchange(other.one_, nullptr)) {}
    ~Com() { reset(); }
    Com& operator=(Com other) noexcept {
        std::swap(one_, other.one_);
        return *this;
    }

    /// Holds what is already counted for us.
    static Com adopt(T* one) {
        Com held;
        held.one_ = one;
        return held;
    }
    static Com share(T* one) {
        if (one) one->AddRef();
        return adopt(one);
    }

    /// Where a call that creates something puts it.
    T** into() {
        reset();
        return &one_;
    }
    void** into_void() { return reinterpret_cast<void**>(into()); }
    void reset() {
        if (T* old = std::exchange(one_, nullptr)) old->Release();
    }

    T* get() const { return one_; }
    T* operator->() const { return one_; }
    explicit operator bool() const { return one_ != nullptr; }

private:
    T* one_ = nullptr;
};

}  // namespace realmaster
