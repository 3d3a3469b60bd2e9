// The part of OpenGL that the bridge itself calls, and the constants that it knows.
//
// Declared here, so that the library builds on a machine without OpenGL headers and links no OpenGL. The functions are
// the driver's own: calling them never passes through our hooks.
#pragma once

#include <cstddef>
#include <cstdint>

namespace realmaster::gl {

using Enum = unsigned int;
using Bitfield = unsigned int;
using Boolean = unsigned char;
using Int = int;
using Uint = unsigned int;
using Sizei = int;
using Intptr = std::ptrdiff_t;
using Sizeiptr = std::ptrdiff_t;
using Sync = void*;

constexpr Enum NO_ERROR = 0;
constexpr Enum RENDERER = 0x1F01, VERSION = 0x1F02, EXTENSIONS = 0x1F03, NUM_EXTENSIONS = 0x821D;
constexpr Enum CONTEXT_FLAGS = 0x821E, CONTEXT_PROFILE_MASK = 0x9126;
constexpr Int FORWARD_COMPATIBLE_BIT = 1, COMPATIBILITY_PROFILE_BIT = 2;

constexpr Bitfield COLOR_BUFFER_BIT = 0x4000, DEPTH_BUFFER_BIT = 0x100;
constexpr Enum DEPTH = 0x1801, DEPTH_STENCIL = 0x84F9;

constexpr Enum MATRIX_MODE = 0x0BA0, PROJECTION = 0x1701, PROJECTION_MATRIX = 0x0BA7;
constexpr Enum VIEWPORT = 0x0BA2, SCISSOR_BOX = 0x0C10, SCISSOR_TEST = 0x0C11, DEPTH_TEST = 0x0B71;
constexpr Enum DEPTH_RANGE = 0x0B70, DEPTH_CLEAR_VALUE = 0x0B73;
constexpr Enum DEPTH_BITS = 0x0D56, STENCIL_BITS = 0x0D57, SAMPLE_BUFFERS = 0x80A8, SAMPLE_POSITION = 0x8E50;
constexpr Enum CLIP_DEPTH_MODE = 0x935D, ZERO_TO_ONE = 0x935F;
constexpr Enum PROGRAM_PIPELINE_BINDING = 0x825A, VERTEX_SHADER = 0x8B31;
constexpr Enum CURRENT_PROGRAM = 0x8B8D, READ_BUFFER = 0x0C02, BACK = 0x0405;

constexpr Enum PACK_SWAP_BYTES = 0x0D00, PACK_LSB_FIRST = 0x0D01, PACK_ROW_LENGTH = 0x0D02, PACK_SKIP_ROWS = 0x0D03,
               PACK_SKIP_PIXELS = 0x0D04, PACK_ALIGNMENT = 0x0D05;
constexpr Enum DEPTH_SCALE = 0x0D1E, DEPTH_BIAS = 0x0D1F;

constexpr Enum PIXEL_PACK_BUFFER = 0x88EB, PIXEL_PACK_BUFFER_BINDING = 0x88ED, STREAM_READ = 0x88E1,
               READ_ONLY = 0x88B8;
constexpr Enum COPY_READ_BUFFER = 0x8F36, COPY_WRITE_BUFFER = 0x8F37, UNIFORM_BUFFER = 0x8A11,
               UNIFORM_BUFFER_BINDING = 0x8A28, UNIFORM_BUFFER_START = 0x8A29;
constexpr Bitfield MAP_READ_BIT = 1;

constexpr Enum READ_FRAMEBUFFER = 0x8CA8, DRAW_FRAMEBUFFER = 0x8CA9, RENDERBUFFER = 0x8D41;
constexpr Enum DRAW_FRAMEBUFFER_BINDING = 0x8CA6, READ_FRAMEBUFFER_BINDING = 0x8CAA, RENDERBUFFER_BINDING = 0x8CA7;
constexpr Enum COLOR_ATTACHMENT0 = 0x8CE0, DEPTH_ATTACHMENT = 0x8D00, STENCIL_ATTACHMENT = 0x8D20,
               DEPTH_STENCIL_ATTACHMENT = 0x821A;
constexpr Enum ATTACHMENT_OBJECT_TYPE = 0x8CD0, ATTACHMENT_OBJECT_NAME = 0x8CD1, ATTACHMENT_LEVEL = 0x8CD2,
               ATTACHMENT_CUBE_FACE = 0x8CD3, ATTACHMENT_LAYER = 0x8CD4, ATTACHMENT_COMPONENT_TYPE = 0x8211,
               ATTACHMENT_DEPTH_SIZE = 0x8216, ATTACHMENT_STENCIL_SIZE = 0x8217;

constexpr Enum IMPLEMENTATION_COLOR_READ_FORMAT = 0x8B9B;
constexpr Enum BGRA = 0x80E1, RGBA = 0x1908, DEPTH_COMPONENT = 0x1902;
constexpr Enum UNSIGNED_BYTE = 0x1401, UNSIGNED_SHORT = 0x1403, UNSIGNED_INT = 0x1405, FLOAT = 0x1406,
               UNSIGNED_INT_8_8_8_8_REV = 0x8367, UNSIGNED_INT_24_8 = 0x84FA;
constexpr Enum DEPTH_COMPONENT16 = 0x81A5, DEPTH_COMPONENT24 = 0x81A6, DEPTH_COMPONENT32 = 0x81A7,
               DEPTH_COMPONENT32F = 0x8CAC, DEPTH24_STENCIL8 = 0x88F0, DEPTH32F_STENCIL8 = 0x8CAD;
constexpr Enum NEAREST = 0x2600;

constexpr Enum ACTIVE_UNIFORMS = 0x8B86, UNIFORM_BLOCK_INDEX = 0x8A3A, UNIFORM_OFFSET = 0x8A3B,
               UNIFORM_IS_ROW_MAJOR = 0x8A3E, UNIFORM_BLOCK_BINDING = 0x8A3F;
constexpr Enum FLOAT_VEC4 = 0x8B52, FLOAT_MAT4 = 0x8B5C;

constexpr Enum SYNC_GPU_COMMANDS_COMPLETE = 0x9117, TIMEOUT_EXPIRED = 0x911B;
constexpr Bitfield SYNC_FLUSH_COMMANDS_BIT = 1;

// name, return type, parameters
#define REALMASTER_GL_FUNCTIONS(X)                                                                                     \
    X(GetError, Enum, ())                                                                                              \
    X(GetString, const unsigned char*, (Enum))                                                                         \
    X(GetStringi, const unsigned char*, (Enum, Uint))                                                                  \
    X(GetIntegerv, void, (Enum, Int*))                                                                                 \
    X(GetIntegeri_v, void, (Enum, Uint, Int*))                                                                         \
    X(GetInteger64i_v, void, (Enum, Uint, std::int64_t*))                                                              \
    X(GetFloatv, void, (Enum, float*))                                                                                 \
    X(IsEnabled, Boolean, (Enum))                                                                                      \
    X(Enable, void, (Enum))                                                                                            \
    X(Disable, void, (Enum))                                                                                           \
    X(ReadPixels, void, (Int, Int, Sizei, Sizei, Enum, Enum, void*))                                                   \
    X(ReadBuffer, void, (Enum))                                                                                        \
    X(PixelStorei, void, (Enum, Int))                                                                                  \
    X(PixelTransferf, void, (Enum, float))                                                                             \
    X(GenBuffers, void, (Sizei, Uint*))                                                                                \
    X(DeleteBuffers, void, (Sizei, const Uint*))                                                                       \
    X(BindBuffer, void, (Enum, Uint))                                                                                  \
    X(BufferData, void, (Enum, Sizeiptr, const void*, Enum))                                                           \
    X(MapBuffer, void*, (Enum, Enum))                                                                                  \
    X(MapBufferRange, void*, (Enum, Intptr, Sizeiptr, Bitfield))                                                       \
    X(UnmapBuffer, Boolean, (Enum))                                                                                    \
    X(CopyBufferSubData, void, (Enum, Enum, Intptr, Intptr, Sizeiptr))                                                 \
    X(FenceSync, Sync, (Enum, Bitfield))                                                                               \
    X(ClientWaitSync, Enum, (Sync, Bitfield, std::uint64_t))                                                           \
    X(DeleteSync, void, (Sync))                                                                                        \
    X(BindFramebuffer, void, (Enum, Uint))                                                                             \
    X(GenFramebuffers, void, (Sizei, Uint*))                                                                           \
    X(DeleteFramebuffers, void, (Sizei, const Uint*))                                                                  \
    X(CheckFramebufferStatus, Enum, (Enum))                                                                            \
    X(FramebufferRenderbuffer, void, (Enum, Enum, Enum, Uint))                                                         \
    X(GetFramebufferAttachmentParameteriv, void, (Enum, Enum, Enum, Int*))                                             \
    X(BlitFramebuffer, void, (Int, Int, Int, Int, Int, Int, Int, Int, Bitfield, Enum))                                 \
    X(GenRenderbuffers, void, (Sizei, Uint*))                                                                          \
    X(DeleteRenderbuffers, void, (Sizei, const Uint*))                                                                 \
    X(BindRenderbuffer, void, (Enum, Uint))                                                                            \
    X(RenderbufferStorage, void, (Enum, Enum, Sizei, Sizei))                                                           \
    X(GetProgramiv, void, (Uint, Enum, Int*))                                                                          \
    X(GetActiveUniform, void, (Uint, Uint, Sizei, Sizei*, Int*, Enum*, char*))                                         \
    X(GetUniformLocation, Int, (Uint, const char*))                                                                    \
    X(GetUniformfv, void, (Uint, Int, float*))                                                                         \
    X(GetActiveUniformsiv, void, (Uint, Sizei, const Uint*, Enum, Int*))                                               \
    X(GetActiveUniformBlockiv, void, (Uint, Uint, Enum, Int*))                                                         \
    X(GetProgramPipelineiv, void, (Uint, Enum, Int*))                                                                  \
    X(GetMultisamplefv, void, (Enum, Uint, float*))

#define REALMASTER_DECLARE(name, result, parameters) extern result(*name) parameters;
REALMASTER_GL_FUNCTIONS(REALMASTER_DECLARE)
#undef REALMASTER_DECLARE

// Fills the table; functions that the driver does not have stay null. find gives the address of "glName" or null.
void load(void* (*find)(const char* name));

// Of the context that is current on this thread.
struct Version {
    int major = 0, minor = 0;
    bool es = false;
    bool fixed_function = false;  // the matrix stacks of old exist

    bool at_least(int want_major, int want_minor) const {
        return major > want_major || (major == want_major && minor >= want_minor);
    }
};
Version version();

// Whether the current context's driver lists an extension, "GL_ARB_sync".
bool has_extension(const char* name);

}  // namespace realmaster::gl
