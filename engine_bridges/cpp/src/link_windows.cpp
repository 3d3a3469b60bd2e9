// The link without libzmq, for libraries that are loaded into games on Windows: one TCP socket, ZMTP 3.1 with the NULL
// mechanism as a DEALER (https://rfc.zeromq.org/spec/37/), heartbeats, connecting again. Nothing here aborts the game,
// starts a thread of its own, or needs another library than Windows itself.
//
// All work is done in `wait`, by the thread that calls it.
#include "link.hpp"

#include <winsock2.h>
#include <ws2tcpip.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <deque>

#include "connection.hpp"
#include "wire.hpp"

namespace realmaster {
namespace {

constexpr double heartbeat_seconds = 1, patience_seconds = 5, handshake_seconds = 5, linger_seconds = 0.5;
constexpr double first_retry_seconds = 0.1, most_retry_seconds = 1;
constexpr std::size_t most_waiting = 16;     // messages not yet sent
constexpr std::size_t most_parts_kept = 40;  // more than any message has: the decoder says what is wrong
constexpr std::size_t greeting_bytes = 64;
constexpr unsigned char more_flag = 1, long_flag = 2, command_flag = 4;

double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::string greeting() {
    std::string bytes(greeting_bytes, '\0');
    bytes[0] = '\xFF';
    bytes[8] = 1;
    bytes[9] = '\x7F';
    bytes[10] = 3;  // version 3.1
    bytes[11] = 1;
    bytes.replace(12, 4, "NULL");
    return bytes;
}

/// The head of a frame of ZMTP: flags and size.
std::string frame_head(unsigned char flags, std::uint64_t size) {
    const bool wide = size > 255;
    std::string head(1, static_cast<char>(flags | (wide ? long_flag : 0)));
    for (int shift = wide ? 56 : 0; shift >= 0; shift -= 8) head += static_cast<char>(size >> shift);
    return head;
}

std::string command(const std::string& name, const std::string& data) {
    const std::string body = static_cast<char>(name.size()) + name + data;
    return frame_head(command_flag, body.size()) + body;
}

std::string property(const std::string& name, const std::string& value) {
    return static_cast<char>(name.size()) + name + std::string(3, '\0') + static_cast<char>(value.size()) + value;
}

}  // namespace

struct Link::Impl {
    enum class State { off, connecting, greeting, handshake, ready };

    /// Bytes to send: our own, or a run of somebody else's, who is told when it was read.
    struct Piece {
        std::string own;
        Run run{nullptr, 0};
        void (*let_go)(void*, void*) = nullptr;
        void* hint = nullptr;
        bool ends_message = false;

        const char* data() const { return run.data ? static_cast<const char*>(run.data) : own.data(); }
        std::size_t size() const { return run.data ? run.size : own.size(); }
    };

    sockaddr_storage address{};
    int address_bytes = 0;
    bool started = false;  // WSAStartup
    SOCKET socket = INVALID_SOCKET;
    WSAEVENT stirs = nullptr;  // something is to be done at the socket
    WSAEVENT bell = nullptr;   // what `wake` rings
    State state = State::off;
    double since = 0;     // when the state began
    double retry_at = 0;  // when to connect, while off
    double retry_after = first_retry_seconds;
    double heard = 0, pinged = 0;

    std::deque<Piece> out;
    std::size_t sent_of_first = 0, waiting = 0;  // bytes of the first piece, messages in `out`
    std::string in;
    std::vector<std::string> parts;             // of the message that is arriving
    std::deque<std::vector<std::string>> arrived;
    std::deque<bool> news;

    void turn(State next) {
        state = next;
        since = now();
    }

    void say(std::string bytes) { out.push_back({std::move(bytes), {nullptr, 0}, nullptr, nullptr, false}); }

    void drop_first() {
        Piece piece = std::move(out.front());
        out.pop_front();
        sent_of_first = 0;
        waiting -= piece.ends_message;
        if (piece.let_go) piece.let_go(piece.run.data, piece.hint);
    }

    void connect() {
        socket = ::socket(address.ss_family, SOCK_STREAM, IPPROTO_TCP);
        const BOOL yes = TRUE;
        const int buffer = 1 << 20;
        if (socket != INVALID_SOCKET) {
            setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, reinterpret_cast<const char*>(&yes), sizeof yes);
            setsockopt(socket, SOL_SOCKET, SO_SNDBUF, reinterpret_cast<const char*>(&buffer), sizeof buffer);
            WSAEventSelect(socket, stirs, FD_CONNECT | FD_READ | FD_WRITE | FD_CLOSE);  // which makes it non-blocking
            turn(State::connecting);
            if (::connect(socket, reinterpret_cast<const sockaddr*>(&address), address_bytes) == 0) return greet();
            if (WSAGetLastError() == WSAEWOULDBLOCK) return;
        }
        disconnect();
    }

    void greet() {
        turn(State::greeting);
        say(greeting());
    }

    /// Ends the connection and what was under way in it; another one is tried after a while.
    void disconnect() {
        if (socket != INVALID_SOCKET) closesocket(socket);
        socket = INVALID_SOCKET;
        while (!out.empty()) drop_first();
        in.clear();
        parts.clear();
        if (state == State::ready) news.push_back(false);
        turn(State::off);
        retry_at = now() + retry_after;
        retry_after = std::min(2 * retry_after, most_retry_seconds);
    }

    /// Whether a call at the socket only has to be made again later; ends the connection after other errors.
    void fails() {
        if (WSAGetLastError() != WSAEWOULDBLOCK) disconnect();
    }

    void send() {
        while (state != State::off && state != State::connecting && !out.empty()) {
            const Piece& piece = out.front();
            const std::size_t left = std::min<std::size_t>(piece.size() - sent_of_first, 1 << 20);
            const int done = left == 0 ? 0 : ::send(socket, piece.data() + sent_of_first, static_cast<int>(left), 0);
            if (done < 0) return fails();
            sent_of_first += static_cast<std::size_t>(done);
            if (sent_of_first == out.front().size()) drop_first();
        }
    }

    void receive() {
        char bytes[65536];
        while (state != State::off && state != State::connecting) {
            const int got = recv(socket, bytes, sizeof bytes, 0);
            if (got < 0) return fails();
            if (got == 0) return disconnect();
            heard = now();
            in.append(bytes, static_cast<std::size_t>(got));
            if (!parse()) return disconnect();
        }
    }

    /// Takes what is whole out of `in`; false when it is not ZMTP.
    bool parse() {
        std::size_t at = 0;
        if (state == State::greeting) {
            if (in.size() < greeting_bytes) return true;
            if (in[0] != '\xFF' || in[9] != '\x7F' || in[10] < 3 || in.compare(12, 5, std::string("NULL\0", 5)) != 0) {
                return false;
            }
            at = greeting_bytes;
            turn(State::handshake);
            say(command("READY", property("Socket-Type", "DEALER") + property("Identity", "")));
        }
        while (at < in.size()) {
            const auto flags = static_cast<unsigned char>(in[at]);
            const std::size_t width = flags & long_flag ? 8 : 1;
            if (in.size() - at < 1 + width) break;
            std::uint64_t size = 0;
            for (std::size_t i = 0; i < width; ++i) size = size << 8 | static_cast<unsigned char>(in[at + 1 + i]);
            if (size > wire::most_header_bytes) return false;
            if (in.size() - at - 1 - width < size) break;
            std::string body = in.substr(at + 1 + width, static_cast<std::size_t>(size));
            at += 1 + width + body.size();
            if (flags & command_flag ? !obey(body) : !take(std::move(body), flags & more_flag)) return false;
        }
        in.erase(0, at);
        return true;
    }

    bool obey(const std::string& body) {
        const auto name_bytes = body.empty() ? 0 : static_cast<unsigned char>(body[0]);
        if (body.size() < 1u + name_bytes) return false;
        const std::string name = body.substr(1, name_bytes);
        if (name == "READY" && state == State::handshake) {
            turn(State::ready);
            retry_after = first_retry_seconds;
            heard = pinged = now();
            news.push_back(true);
        } else if (name == "PING") {
            say(command("PONG", body.size() > 7 ? body.substr(7) : ""));  // after the time to live
        } else if (name == "ERROR") {
            return false;
        }
        return true;
    }

    bool take(std::string part, bool more) {
        if (state != State::ready) return false;
        if (parts.size() < most_parts_kept) parts.push_back(std::move(part));
        if (more) return true;
        arrived.push_back(std::move(parts));
        parts.clear();
        return true;
    }

    /// Does what can be done now. The result: when there is something to do again, whatever happens until then.
    double pump() {
        if (state == State::off && now() >= retry_at) connect();
        if (state == State::connecting) {
            WSANETWORKEVENTS events{};
            WSAEnumNetworkEvents(socket, stirs, &events);
            if (events.lNetworkEvents & FD_CONNECT) {
                if (events.iErrorCode[FD_CONNECT_BIT] == 0) greet();
                else disconnect();
            }
        }
        receive();
        if (state == State::ready && now() - pinged >= heartbeat_seconds) {
            pinged = now();
            const int tenths = static_cast<int>(patience_seconds * 10);
            say(command("PING", std::string(1, static_cast<char>(tenths >> 8)) + static_cast<char>(tenths & 255)));
        }
        send();
        const bool late = state == State::ready ? now() - heard > patience_seconds
                                                : state != State::off && now() - since > handshake_seconds;
        if (late) disconnect();
        if (state == State::off) return retry_at;
        return state == State::ready ? pinged + heartbeat_seconds : since + handshake_seconds;
    }
};

Link::Link() : impl_(std::make_unique<Impl>()) {}

Link::~Link() { shut(); }

std::string Link::open(const std::string& endpoint) {
    WSADATA data;
    if (WSAStartup(MAKEWORD(2, 2), &data) != 0) return "Windows has no sockets";
    impl_->started = true;
    const std::string::size_type colon = endpoint.rfind(':');
    std::string host = endpoint.substr(6, colon - 6);  // after tcp://
    if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
    addrinfo wanted{}, *found = nullptr;
    wanted.ai_socktype = SOCK_STREAM;
    if (getaddrinfo(host.c_str(), endpoint.substr(colon + 1).c_str(), &wanted, &found) != 0 || found == nullptr) {
        return "there is no machine " + host;
    }
    impl_->address_bytes = static_cast<int>(found->ai_addrlen);
    std::memcpy(&impl_->address, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    impl_->stirs = WSACreateEvent();
    impl_->bell = WSACreateEvent();
    if (!impl_->stirs || !impl_->bell) return "Windows gives no events";
    // The first socket loads libraries, which must not happen while the thread that opens waits for another to end.
    if (SOCKET first = ::socket(impl_->address.ss_family, SOCK_STREAM, IPPROTO_TCP); first != INVALID_SOCKET) {
        closesocket(first);
    }
    return "";
}

void Link::shut() {
    if (!impl_->started) return;
    const double until = now() + linger_seconds;
    while (impl_->state == Impl::State::ready && !impl_->out.empty() && now() < until) wait(20);
    if (impl_->socket != INVALID_SOCKET) shutdown(impl_->socket, SD_SEND);
    impl_->disconnect();
    for (WSAEVENT event : {impl_->stirs, impl_->bell}) {
        if (event) WSACloseEvent(event);
    }
    impl_->stirs = impl_->bell = nullptr;
    WSACleanup();
    impl_->started = false;
}

void Link::wait(int milliseconds) {
    const double until = now() + milliseconds / 1000.0;
    while (true) {
        const double next = impl_->pump();
        if (!impl_->arrived.empty() || !impl_->news.empty()) milliseconds = 0;
        const double rest = milliseconds == 0 ? 0 : std::max(0.0, std::min(next, until) - now());
        const WSAEVENT events[] = {impl_->bell, impl_->stirs};
        const DWORD what = WSAWaitForMultipleEvents(2, events, FALSE, static_cast<DWORD>(rest * 1000 + 0.999), FALSE);
        if (what == WSA_WAIT_EVENT_0) {
            WSAResetEvent(impl_->bell);
            return;
        }
        // While it connects, the event goes with what it tells, in `pump`.
        if (what == WSA_WAIT_EVENT_0 + 1 && impl_->state != Impl::State::connecting) WSAResetEvent(impl_->stirs);
        if (milliseconds == 0 || now() >= until) return;
    }
}

void Link::wake() {
    if (impl_->bell) WSASetEvent(impl_->bell);
}

bool Link::receive(std::vector<std::string>& parts) {
    if (impl_->arrived.empty()) return false;
    parts = std::move(impl_->arrived.front());
    impl_->arrived.pop_front();
    return true;
}

std::optional<bool> Link::news() {
    if (impl_->news.empty()) return std::nullopt;
    const bool first = impl_->news.front();
    impl_->news.pop_front();
    return first;
}

bool Link::send(const std::string& message) { return send(message, {}, nullptr, nullptr); }

bool Link::send(const std::string& header, const std::vector<Run>& runs, void (*let_go)(void*, void*), void* hint) {
    if (impl_->state != Impl::State::ready || impl_->waiting >= most_waiting) return false;
    const auto flags = [&](std::size_t part) { return part < runs.size() ? more_flag : static_cast<unsigned char>(0); };
    impl_->say(frame_head(flags(0), header.size()) + header);
    for (std::size_t i = 0; i < runs.size(); ++i) {
        impl_->say(frame_head(flags(i + 1), runs[i].size));
        impl_->out.push_back({"", runs[i], let_go, hint, false});
    }
    impl_->out.back().ends_message = true;
    ++impl_->waiting;
    impl_->send();
    return true;
}

}  // namespace realmaster
