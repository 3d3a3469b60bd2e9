// Where the daemon is and what proves that we may talk to it: the connection file and the environment, as PROTOCOL.md
// describes them. Knows nothing of sockets.
#pragma once

#include <optional>
#include <string>

namespace realmaster {

constexpr const char* default_endpoint = "tcp://127.0.0.1:5790";

/// The environment variable, or an empty text.
std::string environment(const char* name);

/// The port of "tcp://HOST:PORT"; 0 for anything else.
int endpoint_port(const std::string& endpoint);

struct Token {
    std::string value;    // empty when there is none
    std::string problem;  // then the sentence that says why
};

/// The token in the connection file of the daemon at `endpoint`.
Token read_token(const std::string& endpoint);

}  // namespace realmaster
