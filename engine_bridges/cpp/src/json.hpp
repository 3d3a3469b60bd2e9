// Reads JSON into `Value`. Knows nothing of what is in it.
#pragma once

#include <optional>
#include <string_view>

#include "realmaster/sender.hpp"

namespace realmaster {

/// The value that `text` holds, or nothing when it is no JSON. Numbers without point and exponent become integers.
std::optional<Value> parse_json(std::string_view text);

/// The value of a key of a map; nullptr when there is none, or `value` is no map.
const Value* find(const Value& value, std::string_view key);

}  // namespace realmaster
