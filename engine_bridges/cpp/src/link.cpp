#include "link.hpp"

#include <cerrno>
#include <cstdint>
#include <cstring>

#include <zmq.h>

#include "wire.hpp"

namespace realmaster {
namespace {

constexpr int heartbeat_ms = 1000, patience_ms = 5000;
constexpr std::size_t most_parts_kept = 40;  // more than any message has: the decoder says what is wrong

}  // namespace

Link::Link() = default;

Link::~Link() { shut(); }

std::string Link::open(const std::string& endpoint) {
    context_ = zmq_ctx_new();
    socket_ = context_ ? zmq_socket(context_, ZMQ_DEALER) : nullptr;
    monitor_ = socket_ ? zmq_socket(context_, ZMQ_PAIR) : nullptr;
    rope_ = monitor_ ? zmq_socket(context_, ZMQ_PAIR) : nullptr;
    bell_ = rope_ ? zmq_socket(context_, ZMQ_PAIR) : nullptr;
    if (!bell_) return zmq_strerror(zmq_errno());
    const auto set = [this](int option, int value) { zmq_setsockopt(socket_, option, &value, sizeof value); };
    set(ZMQ_LINGER, 500);
    set(ZMQ_SNDHWM, 16);
    set(ZMQ_RCVHWM, 256);
    // What was meant for a daemon that is gone must not reach its successor ahead of our hello.
    set(ZMQ_IMMEDIATE, 1);
    set(ZMQ_RECONNECT_IVL, 100);
    set(ZMQ_RECONNECT_IVL_MAX, 1000);
    set(ZMQ_HEARTBEAT_IVL, heartbeat_ms);
    set(ZMQ_HEARTBEAT_TIMEOUT, patience_ms);
    set(ZMQ_HEARTBEAT_TTL, patience_ms);
    const std::int64_t most = wire::most_header_bytes;
    zmq_setsockopt(socket_, ZMQ_MAXMSGSIZE, &most, sizeof most);
    for (void* socket : {monitor_, rope_, bell_}) {
        const int none = 0;
        zmq_setsockopt(socket, ZMQ_LINGER, &none, sizeof none);
    }
    const int events = ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED;
    const bool done = zmq_socket_monitor(socket_, "inproc://news", events) == 0 &&
                      zmq_connect(monitor_, "inproc://news") == 0 && zmq_bind(bell_, "inproc://bell") == 0 &&
                      zmq_connect(rope_, "inproc://bell") == 0 && zmq_connect(socket_, endpoint.c_str()) == 0;
    return done ? "" : zmq_strerror(zmq_errno());
}

void Link::shut() {
    {
        std::lock_guard lock(rope_mutex_);
        if (rope_) zmq_close(rope_);
        rope_ = nullptr;
    }
    if (socket_) zmq_socket_monitor(socket_, nullptr, 0);
    for (void** socket : {&socket_, &monitor_, &bell_}) {
        if (*socket) zmq_close(*socket);
        *socket = nullptr;
    }
    if (context_) {
        while (zmq_ctx_term(context_) != 0 && zmq_errno() == EINTR) {}
    }
    context_ = nullptr;
}

void Link::wait(int milliseconds) {
    zmq_pollitem_t items[] = {
        {socket_, 0, ZMQ_POLLIN, 0}, {monitor_, 0, ZMQ_POLLIN, 0}, {bell_, 0, ZMQ_POLLIN, 0}};
    zmq_poll(items, 3, milliseconds);
    rung_ = false;  // before the caller looks at what there is to do, so that what comes later rings again
    char nothing;
    while (zmq_recv(bell_, &nothing, 1, ZMQ_DONTWAIT) >= 0) {}
}

void Link::wake() {
    if (rung_.exchange(true)) return;
    std::lock_guard lock(rope_mutex_);
    if (rope_) zmq_send(rope_, "", 0, ZMQ_DONTWAIT);
}

bool Link::receive(std::vector<std::string>& parts) {
    parts.clear();
    int more = 1;
    while (more) {
        zmq_msg_t message;
        zmq_msg_init(&message);
        if (zmq_msg_recv(&message, socket_, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(&message);
            return false;
        }
        if (parts.size() < most_parts_kept) {
            parts.emplace_back(static_cast<char*>(zmq_msg_data(&message)), zmq_msg_size(&message));
        }
        more = zmq_msg_more(&message);
        zmq_msg_close(&message);
    }
    return true;
}

std::optional<bool> Link::news() {
    unsigned char event[6];
    if (zmq_recv(monitor_, event, sizeof event, ZMQ_DONTWAIT) < 0) return std::nullopt;
    char address;
    zmq_recv(monitor_, &address, 1, 0);  // the second part of the same message
    std::uint16_t what;
    std::memcpy(&what, event, sizeof what);
    return what == ZMQ_EVENT_HANDSHAKE_SUCCEEDED;
}

bool Link::send(const std::string& message) {
    return zmq_send(socket_, message.data(), message.size(), ZMQ_DONTWAIT) >= 0;
}

bool Link::send(const std::string& header, const std::vector<Run>& runs, void (*let_go)(void*, void*), void* hint) {
    // Only the first part can be refused: ZeroMQ takes a message as a whole.
    if (zmq_send(socket_, header.data(), header.size(), ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0) return false;
    for (std::size_t i = 0; i < runs.size(); ++i) {
        zmq_msg_t message;
        if (zmq_msg_init_data(&message, runs[i].data, runs[i].size, let_go, hint) != 0) {
            zmq_msg_init(&message);  // no memory: the daemon refuses the frame, and says so
            let_go(runs[i].data, hint);
        }
        if (zmq_msg_send(&message, socket_, ZMQ_DONTWAIT | (i + 1 < runs.size() ? ZMQ_SNDMORE : 0)) < 0) {
            zmq_msg_close(&message);
        }
    }
    return true;
}

}  // namespace realmaster
