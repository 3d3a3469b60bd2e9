// The messages between a bridge and the daemon, and their bytes: PROTOCOL.md in C++.
//
// Encodes what a bridge sends and decodes what it receives. Knows nothing of sockets or threads. `decode` accepts any
// bytes, checks before it allocates, and does not throw.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "realmaster/sender.hpp"

namespace realmaster::wire {

constexpr int version = 1;
constexpr std::size_t most_header_bytes = 65536;

/// A header being written; its memory is kept from message to message.
struct Bytes : std::string {
    void write(const char* data, std::size_t size) { append(data, size); }
};

/// One array of a frame, as the header describes it.
struct Part {
    std::string_view channel;
    std::uint64_t serial = 0;
    std::string_view dtype;
    std::vector<std::uint32_t> shape;
    std::optional<std::uint64_t> offset;  // within the slot
    std::string_view codec = {};          // how it is packed; empty: not at all
};

/// What `frame` says besides its arrays.
struct FrameHeader {
    std::uint64_t serial = 0;
    double time = 0;
    const std::optional<Camera>& camera;
    const std::vector<std::string>& flags;
    std::uint64_t dropped_before = 0;
    const std::vector<Entity>& entities;
    std::optional<double> capture_time;
    const std::vector<Part>& parts;
    std::optional<std::uint64_t> slot;  // of the shared memory that holds the pixels
};

// Each replaces the contents of `out`. Fields are in the order of PROTOCOL.md's tables, so that the bytes are the same
// as those of the Python sender.
void encode_hello(Bytes& out, const Session& session, std::string_view id, std::string_view token);
void encode_channels(Bytes& out, const std::vector<Descriptor>& channels);
void encode_frame(Bytes& out, const FrameHeader& frame);
void encode_event(Bytes& out, std::string_view name, double time, const Map& data);
void encode_attached(Bytes& out, std::string_view key, const std::optional<std::string>& problem);
void encode_bye(Bytes& out);

/// The capability of a bridge that can use shared memory.
constexpr const char* shared_memory = "shared_memory";

/// Bytes of one number of a dtype; 0 for what is no dtype.
std::size_t dtype_bytes(std::string_view dtype);

struct Memory {
    std::string session;
    std::string key;
    std::string name;
    std::uint64_t slots = 0;
    std::uint64_t slot_bytes = 0;
};

/// What a bridge on a slow link is asked for, within its capabilities.
struct Reduction {
    std::uint64_t shrink = 1;
    std::vector<std::pair<std::string, std::string>> codecs;  // by channel
};

struct Welcome {
    std::string session;
    std::vector<std::string> channels;
    std::string mode;
    std::uint64_t credit = 0;
    std::uint64_t max_frame_bytes = 0;
    std::optional<Reduction> reduction;
};

struct Credit {
    std::uint64_t n = 0;
    std::optional<std::uint64_t> recorded;
};

struct Error {
    std::string code;
    std::string sentence;
    /// Whether the session is over; so after any code that this version does not know.
    bool fatal() const;
};

/// Why bytes are no message for a bridge: a code of PROTOCOL.md and a sentence.
struct Refusal {
    std::string code;
    std::string sentence;
};

using Decoded = std::variant<Refusal, Memory, Welcome, Credit, Control, Error, Goodbye>;

/// The message in `parts`, the header first.
Decoded decode(const std::vector<std::string_view>& parts);

}  // namespace realmaster::wire
