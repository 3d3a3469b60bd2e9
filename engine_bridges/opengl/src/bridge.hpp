// The whole: one delivery per process, one recorder per OpenGL context, and which swap is a frame.
//
// Called by the hooks; knows GLX and EGL only as far as what is current on a thread.
#pragma once

#include "recorder.hpp"

namespace realmaster::bridge {

enum class Api { glx, egl };

// The recorder of the frame that is followed on this thread; nullptr nearly always, and then a hook costs one look.
extern thread_local Recorder* following __attribute__((tls_model("initial-exec")));

// Around the driver's buffer swap.
void before_swap(Api api, void* display, void* drawable);
void after_swap();

// After a context was made current on this thread; before one is destroyed.
void current_changed();
void context_dies(void* context);

// The recorder of the context that is current on this thread, if it has one.
Recorder* recorder();

void vulkan_seen();

}  // namespace realmaster::bridge
