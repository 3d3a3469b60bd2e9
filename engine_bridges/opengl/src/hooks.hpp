// The driver's own functions, by name: what the hooks stand in front of.
#pragma once

#include <string>

namespace realmaster::hooks {

// Address of a function of the driver, of any API that the game has loaded; nullptr if there is none. Never a hook.
void* driver_function(const char* name);

// Loads what the sender needs (libzmq) at the first swap only, so that the helpers of a launcher script stay untouched.
// A sentence when it is not there.
std::string load_transport();

}  // namespace realmaster::hooks
