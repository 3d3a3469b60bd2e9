// libFuzzer's target: any bytes as a message to a bridge. The first byte says how many array parts follow the header.
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "wire.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::string_view rest(reinterpret_cast<const char*>(data), size);
    std::vector<std::string_view> parts;
    if (!rest.empty()) {
        const std::size_t more = static_cast<unsigned char>(rest[0]) % 4;
        rest.remove_prefix(1);
        parts.push_back(rest);
        for (std::size_t i = 0; i < more; ++i) parts.push_back(rest.substr(0, i));
    }
    const realmaster::wire::Decoded message = realmaster::wire::decode(parts);
    if (const auto* refusal = std::get_if<realmaster::wire::Refusal>(&message)) {
        if (refusal->code.empty() || refusal->sentence.empty()) __builtin_trap();
    }
    return 0;
}
