// What the game calls instead of the driver: every function here tells the bridge and goes on to the driver.
//
// A game finds these functions in one of four ways, and all lead here: it is linked with libGL (the preloaded library
// comes first), it asks dlsym, glXGetProcAddress or eglGetProcAddress. While no frame is captured a hook costs one look
// at a variable of the thread.
#include "hooks.hpp"

#include <dlfcn.h>

#include <cstring>

#include "bridge.hpp"
#include "gl_api.hpp"

#define EXPORT extern "C" __attribute__((visibility("default")))

using realmaster::Recorder;
using realmaster::bridge::following;
namespace bridge = realmaster::bridge;
using namespace realmaster::gl;

namespace {

struct Hook {
    const char* name;
    void* hook;
    void** driver;
};
const Hook* find_hook(const char* name);
void* look_up(void** driver, const char* name);

inline void* driver(void** known, const char* name) {
    return __builtin_expect(*known != nullptr, 1) ? *known : look_up(known, name);
}

}  // namespace

#define FORWARD(name) (*reinterpret_cast<decltype(&::name)>(driver(&driver_##name, #name)))

// HOOK(result, name, parameters, arguments, what is told when a frame is followed)
#define HOOK(result, name, parameters, arguments, told) \
    static void* driver_##name = nullptr;               \
    EXPORT result name parameters {                     \
        if (Recorder* frame = following) {              \
            told;                                       \
        }                                               \
        return FORWARD(name) arguments;                 \
    }
// Likewise, told after the call.
#define HOOK_AFTER(name, parameters, arguments, told) \
    static void* driver_##name = nullptr;             \
    EXPORT void name parameters {                     \
        FORWARD(name) arguments;                      \
        if (Recorder* frame = following) {            \
            told;                                     \
        }                                             \
    }

// --- drawing

#define DRAW(name, parameters, arguments, vertices) HOOK(void, name, parameters, arguments, frame->draw(vertices))

static long long total(const Sizei* counts, Sizei draws) {
    long long sum = 0;
    for (Sizei i = 0; i < draws; ++i) sum += counts[i];
    return sum;
}

DRAW(glDrawArrays, (Enum mode, Int first, Sizei count), (mode, first, count), count)
DRAW(glDrawArraysEXT, (Enum mode, Int first, Sizei count), (mode, first, count), count)
DRAW(glDrawElements, (Enum mode, Sizei count, Enum type, const void* at), (mode, count, type, at), count)
DRAW(glDrawRangeElements, (Enum mode, Uint start, Uint end, Sizei count, Enum type, const void* at),
     (mode, start, end, count, type, at), count)
DRAW(glDrawRangeElementsEXT, (Enum mode, Uint start, Uint end, Sizei count, Enum type, const void* at),
     (mode, start, end, count, type, at), count)
DRAW(glDrawElementsBaseVertex, (Enum mode, Sizei count, Enum type, const void* at, Int base),
     (mode, count, type, at, base), count)
DRAW(glDrawRangeElementsBaseVertex, (Enum mode, Uint start, Uint end, Sizei count, Enum type, const void* at, Int base),
     (mode, start, end, count, type, at, base), count)
DRAW(glDrawArraysInstanced, (Enum mode, Int first, Sizei count, Sizei instances), (mode, first, count, instances),
     static_cast<long long>(count) * instances)
DRAW(glDrawArraysInstancedARB, (Enum mode, Int first, Sizei count, Sizei instances), (mode, first, count, instances),
     static_cast<long long>(count) * instances)
DRAW(glDrawArraysInstancedEXT, (Enum mode, Int first, Sizei count, Sizei instances), (mode, first, count, instances),
     static_cast<long long>(count) * instances)
DRAW(glDrawArraysInstancedBaseInstance, (Enum mode, Int first, Sizei count, Sizei instances, Uint base),
     (mode, first, count, instances, base), static_cast<long long>(count) * instances)
DRAW(glDrawElementsInstanced, (Enum mode, Sizei count, Enum type, const void* at, Sizei instances),
     (mode, count, type, at, instances), static_cast<long long>(count) * instances)
DRAW(glDrawElementsInstancedARB, (Enum mode, Sizei count, Enum type, const void* at, Sizei instances),
     (mode, count, type, at, instances), static_cast<long long>(count) * instances)
DRAW(glDrawElementsInstancedEXT, (Enum mode, Sizei count, Enum type, const void* at, Sizei instances),
     (mode, count, type, at, instances), static_cast<long long>(count) * instances)
DRAW(glDrawElementsInstancedBaseVertex,
     (Enum mode, Sizei count, Enum type, const void* at, Sizei instances, Int base),
     (mode, count, type, at, instances, base), static_cast<long long>(count) * instances)
DRAW(glDrawElementsInstancedBaseInstance,
     (Enum mode, Sizei count, Enum type, const void* at, Sizei instances, Uint instance),
     (mode, count, type, at, instances, instance), static_cast<long long>(count) * instances)
DRAW(glDrawElementsInstancedBaseVertexBaseInstance,
     (Enum mode, Sizei count, Enum type, const void* at, Sizei instances, Int base, Uint instance),
     (mode, count, type, at, instances, base, instance), static_cast<long long>(count) * instances)
DRAW(glMultiDrawArrays, (Enum mode, const Int* firsts, const Sizei* counts, Sizei draws),
     (mode, firsts, counts, draws), total(counts, draws))
DRAW(glMultiDrawElements, (Enum mode, const Sizei* counts, Enum type, const void* const* at, Sizei draws),
     (mode, counts, type, at, draws), total(counts, draws))
DRAW(glMultiDrawElementsBaseVertex,
     (Enum mode, const Sizei* counts, Enum type, const void* const* at, Sizei draws, const Int* bases),
     (mode, counts, type, at, draws, bases), total(counts, draws))
// How many vertices these draw stands in the graphics card's memory.
constexpr long long MANY = 1000;
DRAW(glDrawArraysIndirect, (Enum mode, const void* at), (mode, at), MANY)
DRAW(glDrawElementsIndirect, (Enum mode, Enum type, const void* at), (mode, type, at), MANY)
DRAW(glMultiDrawArraysIndirect, (Enum mode, const void* at, Sizei draws, Sizei stride), (mode, at, draws, stride),
     MANY * draws)
DRAW(glMultiDrawElementsIndirect, (Enum mode, Enum type, const void* at, Sizei draws, Sizei stride),
     (mode, type, at, draws, stride), MANY* draws)
DRAW(glMultiDrawArraysIndirectCount, (Enum mode, const void* at, Intptr count, Sizei most, Sizei stride),
     (mode, at, count, most, stride), MANY* most)
DRAW(glMultiDrawElementsIndirectCount,
     (Enum mode, Enum type, const void* at, Intptr count, Sizei most, Sizei stride),
     (mode, type, at, count, most, stride), MANY* most)
// Between glBegin and glEnd nothing may be asked, so a strip counts when it begins.
DRAW(glBegin, (Enum mode), (mode), 4)
DRAW(glCallList, (Uint list), (list), 100)
DRAW(glCallLists, (Sizei count, Enum type, const void* lists), (count, type, lists), 10LL * count)
HOOK(void, glNewList, (Uint list, Enum mode), (list, mode), frame->list_begins())
HOOK(void, glEndList, (), (), frame->list_ends())

// --- framebuffers

HOOK(void, glClear, (Bitfield buffers), (buffers), frame->clear_bound(buffers))
HOOK(void, glClearBufferfv, (Enum buffer, Int number, const float* value), (buffer, number, value),
     if (buffer == DEPTH) frame->clear_bound(DEPTH_BUFFER_BIT))
HOOK(void, glClearBufferfi, (Enum buffer, Int number, float depth, Int stencil), (buffer, number, depth, stencil),
     frame->clear_bound(DEPTH_BUFFER_BIT))
HOOK(void, glClearNamedFramebufferfv, (Uint framebuffer, Enum buffer, Int number, const float* value),
     (framebuffer, buffer, number, value), if (buffer == DEPTH) frame->clear(DEPTH_BUFFER_BIT, framebuffer))
HOOK(void, glClearNamedFramebufferfi, (Uint framebuffer, Enum buffer, Int number, float depth, Int stencil),
     (framebuffer, buffer, number, depth, stencil), frame->clear(DEPTH_BUFFER_BIT, framebuffer))
HOOK_AFTER(glBindFramebuffer, (Enum target, Uint name), (target, name), frame->framebuffer_bound(target, name))
HOOK_AFTER(glBindFramebufferEXT, (Enum target, Uint name), (target, name), frame->framebuffer_bound(target, name))
#define BLIT                                                                                                \
    (Int a, Int b, Int c, Int d, Int e, Int f, Int g, Int h, Bitfield buffers, Enum filter),               \
        (a, b, c, d, e, f, g, h, buffers, filter), frame->blitted(0, false, buffers)
#define BLITTED(name, ...) HOOK(void, name, __VA_ARGS__)
BLITTED(glBlitFramebuffer, BLIT)
BLITTED(glBlitFramebufferEXT, BLIT)
HOOK(void, glBlitNamedFramebuffer,
     (Uint from, Uint to, Int a, Int b, Int c, Int d, Int e, Int f, Int g, Int h, Bitfield buffers, Enum filter),
     (from, to, a, b, c, d, e, f, g, h, buffers, filter), frame->blitted(to, true, buffers))
HOOK(void, glInvalidateFramebuffer, (Enum target, Sizei count, const Enum* attachments), (target, count, attachments),
     frame->invalidated(target, count, attachments))
HOOK(void, glDiscardFramebufferEXT, (Enum target, Sizei count, const Enum* attachments), (target, count, attachments),
     frame->invalidated(target, count, attachments))
HOOK(void, glInvalidateNamedFramebufferData, (Uint framebuffer, Sizei count, const Enum* attachments),
     (framebuffer, count, attachments), frame->attached_named(framebuffer))
HOOK(void, glFramebufferTexture, (Enum target, Enum attachment, Uint texture, Int level),
     (target, attachment, texture, level), frame->attached(target))
HOOK(void, glFramebufferTexture2D, (Enum target, Enum attachment, Enum kind, Uint texture, Int level),
     (target, attachment, kind, texture, level), frame->attached(target))
HOOK(void, glFramebufferTexture2DEXT, (Enum target, Enum attachment, Enum kind, Uint texture, Int level),
     (target, attachment, kind, texture, level), frame->attached(target))
HOOK(void, glFramebufferTextureLayer, (Enum target, Enum attachment, Uint texture, Int level, Int layer),
     (target, attachment, texture, level, layer), frame->attached(target))
HOOK(void, glFramebufferRenderbuffer, (Enum target, Enum attachment, Enum kind, Uint renderbuffer),
     (target, attachment, kind, renderbuffer), frame->attached(target))
HOOK(void, glFramebufferRenderbufferEXT, (Enum target, Enum attachment, Enum kind, Uint renderbuffer),
     (target, attachment, kind, renderbuffer), frame->attached(target))
HOOK(void, glNamedFramebufferTexture, (Uint framebuffer, Enum attachment, Uint texture, Int level),
     (framebuffer, attachment, texture, level), frame->attached_named(framebuffer))
HOOK(void, glNamedFramebufferRenderbuffer, (Uint framebuffer, Enum attachment, Enum kind, Uint renderbuffer),
     (framebuffer, attachment, kind, renderbuffer), frame->attached_named(framebuffer))
HOOK(void, glDeleteFramebuffers, (Sizei count, const Uint* names), (count, names),
     frame->framebuffers_deleted(count, names))
HOOK(void, glDeleteFramebuffersEXT, (Sizei count, const Uint* names), (count, names),
     frame->framebuffers_deleted(count, names))

// --- the lens

HOOK_AFTER(glViewport, (Int x, Int y, Sizei width, Sizei height), (x, y, width, height), frame->viewport_set())
HOOK_AFTER(glViewportIndexedf, (Uint index, float x, float y, float w, float h), (index, x, y, w, h),
           frame->viewport_set())
HOOK_AFTER(glViewportIndexedfv, (Uint index, const float* box), (index, box), frame->viewport_set())
HOOK_AFTER(glViewportArrayv, (Uint first, Sizei count, const float* boxes), (first, count, boxes),
           frame->viewport_set())
HOOK_AFTER(glDepthRange, (double low, double high), (low, high), frame->depth_range_set())
HOOK_AFTER(glDepthRangef, (float low, float high), (low, high), frame->depth_range_set())
HOOK_AFTER(glEnable, (Enum what), (what), frame->switched(what))
HOOK_AFTER(glDisable, (Enum what), (what), frame->switched(what))
HOOK_AFTER(glMatrixMode, (Enum mode), (mode), frame->matrix_mode_set(mode))
HOOK_AFTER(glLoadMatrixf, (const float* m), (m), frame->matrix_set())
HOOK_AFTER(glLoadMatrixd, (const double* m), (m), frame->matrix_set())
HOOK_AFTER(glLoadTransposeMatrixf, (const float* m), (m), frame->matrix_set())
HOOK_AFTER(glLoadTransposeMatrixd, (const double* m), (m), frame->matrix_set())
HOOK_AFTER(glMultMatrixf, (const float* m), (m), frame->matrix_set())
HOOK_AFTER(glMultMatrixd, (const double* m), (m), frame->matrix_set())
HOOK_AFTER(glMultTransposeMatrixf, (const float* m), (m), frame->matrix_set())
HOOK_AFTER(glMultTransposeMatrixd, (const double* m), (m), frame->matrix_set())
HOOK_AFTER(glLoadIdentity, (), (), frame->matrix_set())
HOOK_AFTER(glPushMatrix, (), (), (void)frame)
HOOK_AFTER(glPopMatrix, (), (), frame->matrix_set())
HOOK_AFTER(glFrustum, (double l, double r, double b, double t, double n, double f), (l, r, b, t, n, f),
           frame->matrix_set())
HOOK_AFTER(glOrtho, (double l, double r, double b, double t, double n, double f), (l, r, b, t, n, f),
           frame->matrix_set())
HOOK_AFTER(glTranslatef, (float x, float y, float z), (x, y, z), frame->matrix_set())
HOOK_AFTER(glTranslated, (double x, double y, double z), (x, y, z), frame->matrix_set())
HOOK_AFTER(glScalef, (float x, float y, float z), (x, y, z), frame->matrix_set())
HOOK_AFTER(glScaled, (double x, double y, double z), (x, y, z), frame->matrix_set())
HOOK_AFTER(glRotatef, (float angle, float x, float y, float z), (angle, x, y, z), frame->matrix_set())
HOOK_AFTER(glRotated, (double angle, double x, double y, double z), (angle, x, y, z), frame->matrix_set())
HOOK_AFTER(glMatrixLoadfEXT, (Enum mode, const float* m), (mode, m), frame->depth_range_set())
HOOK_AFTER(glMatrixLoaddEXT, (Enum mode, const double* m), (mode, m), frame->depth_range_set())
HOOK_AFTER(glPopAttrib, (), (), frame->attributes_popped())

// --- programs

HOOK_AFTER(glUseProgram, (Uint program), (program), frame->program_used(program))
HOOK_AFTER(glUseProgramObjectARB, (Uint program), (program), frame->program_used(program))
HOOK_AFTER(glBindProgramPipeline, (Uint pipeline), (pipeline), frame->pipeline_used())
HOOK_AFTER(glUseProgramStages, (Uint pipeline, Bitfield stages, Uint program), (pipeline, stages, program),
           frame->pipeline_used())
HOOK_AFTER(glUniformMatrix4fv, (Int location, Sizei count, Boolean transpose, const float* value),
           (location, count, transpose, value), frame->uniform_set())
HOOK_AFTER(glUniformMatrix4fvARB, (Int location, Sizei count, Boolean transpose, const float* value),
           (location, count, transpose, value), frame->uniform_set())
HOOK_AFTER(glUniform4fv, (Int location, Sizei count, const float* value), (location, count, value),
           if (count >= 4) frame->uniform_set())
HOOK_AFTER(glUniform4fvARB, (Int location, Sizei count, const float* value), (location, count, value),
           if (count >= 4) frame->uniform_set())
HOOK_AFTER(glProgramUniformMatrix4fv, (Uint program, Int location, Sizei count, Boolean transpose, const float* value),
           (program, location, count, transpose, value), frame->uniform_set(program))
HOOK_AFTER(glProgramUniform4fv, (Uint program, Int location, Sizei count, const float* value),
           (program, location, count, value), frame->uniform_set(program))
HOOK_AFTER(glBindBufferBase, (Enum target, Uint index, Uint buffer), (target, index, buffer),
           if (target == UNIFORM_BUFFER) frame->uniform_buffer_set())
HOOK_AFTER(glBindBufferRange, (Enum target, Uint index, Uint buffer, Intptr offset, Sizeiptr size),
           (target, index, buffer, offset, size), if (target == UNIFORM_BUFFER) frame->uniform_buffer_set())

#define FORGET(name)                                                               \
    static void* driver_##name = nullptr;                                          \
    EXPORT void name(Uint program) {                                               \
        if (Recorder* recorder = bridge::recorder()) recorder->program_gone(program); \
        FORWARD(name)(program);                                                    \
    }
FORGET(glLinkProgram)
FORGET(glLinkProgramARB)
FORGET(glDeleteProgram)

// Errors of the game's that we had to take from the driver are given to it here.
static void* driver_glGetError = nullptr;
EXPORT Enum glGetError() {
    if (Recorder* frame = following) {
        if (const Enum kept = frame->kept_error()) return kept;
    }
    return FORWARD(glGetError)();
}

// --- windows and contexts

static void* driver_glXSwapBuffers = nullptr;
EXPORT void glXSwapBuffers(void* display, unsigned long drawable) {
    bridge::before_swap(bridge::Api::glx, display, reinterpret_cast<void*>(drawable));
    FORWARD(glXSwapBuffers)(display, drawable);
    bridge::after_swap();
}

static void* driver_glXSwapBuffersMscOML = nullptr;
EXPORT long glXSwapBuffersMscOML(void* display, unsigned long drawable, long target, long divisor, long remainder) {
    bridge::before_swap(bridge::Api::glx, display, reinterpret_cast<void*>(drawable));
    const long count = FORWARD(glXSwapBuffersMscOML)(display, drawable, target, divisor, remainder);
    bridge::after_swap();
    return count;
}

#define EGL_SWAP(name, parameters, arguments)                               \
    static void* driver_##name = nullptr;                                   \
    EXPORT unsigned name parameters {                                       \
        bridge::before_swap(bridge::Api::egl, display, surface);            \
        const unsigned done = FORWARD(name) arguments;                      \
        bridge::after_swap();                                               \
        return done;                                                        \
    }
EGL_SWAP(eglSwapBuffers, (void* display, void* surface), (display, surface))
EGL_SWAP(eglSwapBuffersWithDamageKHR, (void* display, void* surface, const int* rectangles, int count),
         (display, surface, rectangles, count))
EGL_SWAP(eglSwapBuffersWithDamageEXT, (void* display, void* surface, const int* rectangles, int count),
         (display, surface, rectangles, count))

#define MAKE_CURRENT(result, name, parameters, arguments) \
    static void* driver_##name = nullptr;                 \
    EXPORT result name parameters {                       \
        const result done = FORWARD(name) arguments;      \
        bridge::current_changed();                        \
        return done;                                      \
    }
MAKE_CURRENT(int, glXMakeCurrent, (void* display, unsigned long drawable, void* context), (display, drawable, context))
MAKE_CURRENT(int, glXMakeContextCurrent, (void* display, unsigned long draw, unsigned long read, void* context),
             (display, draw, read, context))
MAKE_CURRENT(int, glXMakeCurrentReadSGI, (void* display, unsigned long draw, unsigned long read, void* context),
             (display, draw, read, context))
MAKE_CURRENT(unsigned, eglMakeCurrent, (void* display, void* draw, void* read, void* context),
             (display, draw, read, context))

static void* driver_glXDestroyContext = nullptr;
EXPORT void glXDestroyContext(void* display, void* context) {
    bridge::context_dies(context);
    FORWARD(glXDestroyContext)(display, context);
}

static void* driver_eglDestroyContext = nullptr;
EXPORT unsigned eglDestroyContext(void* display, void* context) {
    bridge::context_dies(context);
    return FORWARD(eglDestroyContext)(display, context);
}

// --- how functions are found

#define GET_ADDRESS(name)                                                               \
    static void* driver_##name = nullptr;                                               \
    EXPORT void* name(const char* wanted) {                                             \
        void* found = FORWARD(name)(wanted);                                            \
        const Hook* hook = found == nullptr ? nullptr : find_hook(wanted);              \
        if (hook == nullptr) return found;                                              \
        if (*hook->driver == nullptr && found != hook->hook) *hook->driver = found;     \
        return hook->hook;                                                              \
    }
GET_ADDRESS(glXGetProcAddress)
GET_ADDRESS(glXGetProcAddressARB)
GET_ADDRESS(eglGetProcAddress)

// --- Vulkan, only to say that it is not captured

static void* driver_vkQueuePresentKHR = nullptr;
EXPORT int vkQueuePresentKHR(void* queue, const void* what) {
    bridge::vulkan_seen();
    return FORWARD(vkQueuePresentKHR)(queue, what);
}

#define VULKAN_ADDRESS(name)                                                               \
    static void* driver_##name = nullptr;                                                  \
    EXPORT void* name(void* object, const char* wanted) {                                  \
        void* found = FORWARD(name)(object, wanted);                                       \
        if (found == nullptr || std::strcmp(wanted, "vkQueuePresentKHR") != 0) return found; \
        if (driver_vkQueuePresentKHR == nullptr) driver_vkQueuePresentKHR = found;         \
        /* Another device may have another function: that one is not ours to stand for. */ \
        return driver_vkQueuePresentKHR == found ? reinterpret_cast<void*>(&vkQueuePresentKHR) : found; \
    }
VULKAN_ADDRESS(vkGetInstanceProcAddr)
VULKAN_ADDRESS(vkGetDeviceProcAddr)

namespace {

#define ENTRY(name) {#name, reinterpret_cast<void*>(&name), &driver_##name}

// Constant, because dlsym may be asked before any constructor of ours has run.
const Hook HOOKS[] = {
    ENTRY(glDrawArrays), ENTRY(glDrawArraysEXT), ENTRY(glDrawElements), ENTRY(glDrawRangeElements),
    ENTRY(glDrawRangeElementsEXT), ENTRY(glDrawElementsBaseVertex), ENTRY(glDrawRangeElementsBaseVertex),
    ENTRY(glDrawArraysInstanced), ENTRY(glDrawArraysInstancedARB), ENTRY(glDrawArraysInstancedEXT),
    ENTRY(glDrawArraysInstancedBaseInstance), ENTRY(glDrawElementsInstanced), ENTRY(glDrawElementsInstancedARB),
    ENTRY(glDrawElementsInstancedEXT), ENTRY(glDrawElementsInstancedBaseVertex),
    ENTRY(glDrawElementsInstancedBaseInstance), ENTRY(glDrawElementsInstancedBaseVertexBaseInstance),
    ENTRY(glMultiDrawArrays), ENTRY(glMultiDrawElements), ENTRY(glMultiDrawElementsBaseVertex),
    ENTRY(glDrawArraysIndirect), ENTRY(glDrawElementsIndirect), ENTRY(glMultiDrawArraysIndirect),
    ENTRY(glMultiDrawElementsIndirect), ENTRY(glMultiDrawArraysIndirectCount),
    ENTRY(glMultiDrawElementsIndirectCount), ENTRY(glBegin), ENTRY(glCallList), ENTRY(glCallLists),
    ENTRY(glBindFramebuffer), ENTRY(glBindFramebufferEXT), ENTRY(glBlitFramebuffer), ENTRY(glBlitFramebufferEXT),
    ENTRY(glViewport), ENTRY(glViewportIndexedf), ENTRY(glViewportIndexedfv), ENTRY(glViewportArrayv),
    ENTRY(glDepthRange), ENTRY(glDepthRangef), ENTRY(glEnable), ENTRY(glDisable), ENTRY(glMatrixMode),
    ENTRY(glLoadMatrixf), ENTRY(glLoadMatrixd), ENTRY(glLoadTransposeMatrixf), ENTRY(glLoadTransposeMatrixd),
    ENTRY(glMultMatrixf), ENTRY(glMultMatrixd), ENTRY(glMultTransposeMatrixf), ENTRY(glMultTransposeMatrixd),
    ENTRY(glLoadIdentity), ENTRY(glPushMatrix), ENTRY(glPopMatrix), ENTRY(glFrustum), ENTRY(glOrtho),
    ENTRY(glTranslatef), ENTRY(glTranslated), ENTRY(glScalef), ENTRY(glScaled), ENTRY(glRotatef), ENTRY(glRotated),
    ENTRY(glMatrixLoadfEXT), ENTRY(glMatrixLoaddEXT), ENTRY(glPopAttrib), ENTRY(glUseProgram),
    ENTRY(glUseProgramObjectARB), ENTRY(glBindProgramPipeline), ENTRY(glUseProgramStages), ENTRY(glUniformMatrix4fv),
    ENTRY(glUniformMatrix4fvARB), ENTRY(glUniform4fv), ENTRY(glUniform4fvARB), ENTRY(glProgramUniformMatrix4fv),
    ENTRY(glProgramUniform4fv), ENTRY(glBindBufferBase), ENTRY(glBindBufferRange), ENTRY(glLinkProgram),
    ENTRY(glLinkProgramARB), ENTRY(glDeleteProgram), ENTRY(eglSwapBuffers), ENTRY(eglSwapBuffersWithDamageKHR),
    ENTRY(eglSwapBuffersWithDamageEXT), ENTRY(glXGetProcAddress), ENTRY(glXGetProcAddressARB),
    ENTRY(eglGetProcAddress), ENTRY(vkGetInstanceProcAddr), ENTRY(vkGetDeviceProcAddr), ENTRY(glNewList),
    ENTRY(glEndList), ENTRY(glClear), ENTRY(glClearBufferfv), ENTRY(glClearBufferfi),
    ENTRY(glClearNamedFramebufferfv), ENTRY(glClearNamedFramebufferfi), ENTRY(glBlitNamedFramebuffer),
    ENTRY(glInvalidateFramebuffer), ENTRY(glDiscardFramebufferEXT), ENTRY(glInvalidateNamedFramebufferData),
    ENTRY(glFramebufferTexture), ENTRY(glFramebufferTexture2D), ENTRY(glFramebufferTexture2DEXT),
    ENTRY(glFramebufferTextureLayer), ENTRY(glFramebufferRenderbuffer), ENTRY(glFramebufferRenderbufferEXT),
    ENTRY(glNamedFramebufferTexture), ENTRY(glNamedFramebufferRenderbuffer), ENTRY(glDeleteFramebuffers),
    ENTRY(glDeleteFramebuffersEXT), ENTRY(glXMakeCurrent), ENTRY(glXMakeContextCurrent), ENTRY(glXMakeCurrentReadSGI),
    ENTRY(eglMakeCurrent), ENTRY(glGetError), ENTRY(glXSwapBuffers), ENTRY(glXSwapBuffersMscOML),
    ENTRY(glXDestroyContext), ENTRY(eglDestroyContext), ENTRY(vkQueuePresentKHR),
};

const Hook* find_hook(const char* name) {
    if (name[0] != 'g' && name[0] != 'e' && name[0] != 'v') return nullptr;
    for (const Hook& hook : HOOKS) {
        if (std::strcmp(hook.name, name) == 0) return &hook;
    }
    return nullptr;
}

bool is_hook(const void* address) {
    for (const Hook& hook : HOOKS) {
        if (hook.hook == address) return true;
    }
    return false;
}

using Dlsym = void* (*)(void*, const char*);

std::size_t nothing() { return 0; }

void* look_up(void** driver, const char* name) {
    void* found = realmaster::hooks::driver_function(name);
    *driver = found != nullptr ? found : reinterpret_cast<void*>(&nothing);
    return *driver;
}

}  // namespace

// The loader's dlsym, found without asking dlsym. Read by the assembly below.
extern "C" {
__attribute__((visibility("hidden"))) void* realmaster_dlsym = nullptr;
}

static Dlsym own_dlsym() {
    if (realmaster_dlsym == nullptr) {
        for (const char* version : {"GLIBC_2.34", "GLIBC_2.2.5", "GLIBC_2.17"}) {
            if (realmaster_dlsym == nullptr) realmaster_dlsym = dlvsym(RTLD_NEXT, "dlsym", version);
        }
    }
    return reinterpret_cast<Dlsym>(realmaster_dlsym);
}

// What dlsym answers instead of the loader; nullptr: let the loader answer.
extern "C" __attribute__((visibility("hidden"))) void* realmaster_answer(void* library, const char* name) {
    const Dlsym loader = own_dlsym();
    if (name == nullptr || library == RTLD_NEXT) return nullptr;  // "next" is counted from who asks
    const Hook* hook = find_hook(name);
    if (hook == nullptr) return nullptr;
    void* found = loader(library, name);
    if (found == nullptr) return nullptr;
    if (*hook->driver == nullptr && found != hook->hook) *hook->driver = found;
    return hook->hook;
}

#if defined(__x86_64__)
// A jump instead of a call: the loader looks at its return address to know who asks.
asm(R"(
.text
.globl dlsym
.type dlsym, @function
dlsym:
    push %rdi
    push %rsi
    sub $8, %rsp
    call realmaster_answer
    add $8, %rsp
    pop %rsi
    pop %rdi
    test %rax, %rax
    jnz 1f
    mov realmaster_dlsym(%rip), %rax
    jmp *%rax
1:  ret
.size dlsym, . - dlsym
)");
#else
EXPORT void* dlsym(void* library, const char* name) {
    if (void* answer = realmaster_answer(library, name)) return answer;
    return own_dlsym()(library, name);
}
#endif

namespace realmaster::hooks {

void* driver_function(const char* name) {
    const Dlsym loader = own_dlsym();
    if (loader == nullptr) return nullptr;
    void* found = loader(RTLD_NEXT, name);
    if (found != nullptr && !is_hook(found)) return found;
    for (const char* library : {"libGL.so.1", "libOpenGL.so.0", "libGLX.so.0", "libEGL.so.1", "libGLESv2.so.2",
                                "libvulkan.so.1"}) {
        void* handle = dlopen(library, RTLD_LAZY | RTLD_NOLOAD);
        if (handle == nullptr) continue;
        found = loader(handle, name);
        dlclose(handle);  // NOLOAD has only counted it once more
        if (found != nullptr && !is_hook(found)) return found;
    }
    using GetAddress = void* (*)(const char*);
    for (const char* getter : {"glXGetProcAddressARB", "eglGetProcAddress"}) {
        if (std::strcmp(name, getter) == 0) return nullptr;
    }
    for (const char* getter : {"glXGetProcAddressARB", "eglGetProcAddress"}) {
        if (name[0] == 'v') break;
        const Hook* hook = find_hook(getter);
        auto* get = reinterpret_cast<GetAddress>(*hook->driver != nullptr ? *hook->driver : driver_function(getter));
        if (get == nullptr || reinterpret_cast<void*>(get) == reinterpret_cast<void*>(&nothing)) continue;
        found = get(name);
        if (found != nullptr && !is_hook(found)) return found;
    }
    return nullptr;
}

std::string load_transport() {
    if (dlopen("libzmq.so.5", RTLD_NOW | RTLD_GLOBAL) != nullptr) return "";
    return "libzmq is missing, which the bridge needs to reach the daemon: `sudo apt install libzmq5` brings it.";
}

}  // namespace realmaster::hooks
