// A scene of known geometry, drawn in the many ways in which games draw: the test subject of the OpenGL bridge.
//
//     zoo MODE [--frames N] [--size WxH] [--truth FILE] [--swaps FILE] [--pause MS]
//
// A floor and boxes, a camera that moves. The sky has the colour (frame % 256, frame / 256, 255), so that every picture
// tells which frame it shows. --truth gets one JSON object a line: the scene first, then the camera of every frame;
// whoever reads it can cast rays and knows the depth of every pixel. --swaps gets the seconds that each frame and its
// swap took. N = 0, the default, draws until SIGTERM.
//
// Before and after each swap the program compares the OpenGL state: exit code 3 when somebody has changed it.

#define GL_GLEXT_PROTOTYPES
#include <EGL/egl.h>
#include <EGL/eglext.h>
#include <GL/gl.h>
#include <GL/glext.h>
#include <GL/glx.h>
#include <X11/Xlib.h>
#include <dlfcn.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

[[noreturn]] static void fail(const std::string& sentence, int code = 2) {
    fprintf(stderr, "zoo: %s\n", sentence.c_str());
    exit(code);
}

// -- matrices: column-major as OpenGL takes them

struct Matrix {
    float m[16] = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1};

    Matrix operator*(const Matrix& other) const {
        Matrix product;
        for (int column = 0; column < 4; ++column)
            for (int row = 0; row < 4; ++row) {
                float sum = 0;
                for (int k = 0; k < 4; ++k) sum += m[k * 4 + row] * other.m[column * 4 + k];
                product.m[column * 4 + row] = sum;
            }
        return product;
    }
};

static Matrix translation(float x, float y, float z) {
    Matrix t;
    t.m[12] = x, t.m[13] = y, t.m[14] = z;
    return t;
}

static Matrix rotation_y(float angle) {
    Matrix r;
    r.m[0] = r.m[10] = cosf(angle), r.m[8] = sinf(angle), r.m[2] = -sinf(angle);
    return r;
}

static Matrix rotation_x(float angle) {
    Matrix r;
    r.m[5] = r.m[10] = cosf(angle), r.m[9] = -sinf(angle), r.m[6] = sinf(angle);
    return r;
}

// OpenGL's own perspective: depth -1 near, 1 far.
static Matrix perspective(float vfov, float aspect, float near, float far) {
    const float f = 1 / tanf(vfov / 2);
    Matrix p;
    p.m[0] = f / aspect, p.m[5] = f, p.m[11] = -1, p.m[15] = 0;
    p.m[10] = std::isinf(far) ? -1 : (far + near) / (near - far);
    p.m[14] = std::isinf(far) ? -2 * near : 2 * far * near / (near - far);
    return p;
}

// Depth 1 near, 0 far, as engines use it with glClipControl(GL_ZERO_TO_ONE).
static Matrix reversed_perspective(float vfov, float aspect, float near, float far) {
    Matrix p = perspective(vfov, aspect, near, far);
    p.m[10] = std::isinf(far) ? 0 : near / (far - near);
    p.m[14] = std::isinf(far) ? near : near * far / (far - near);
    return p;
}

static Matrix orthographic(float left, float right, float bottom, float top, float near, float far) {
    Matrix o;
    o.m[0] = 2 / (right - left), o.m[5] = 2 / (top - bottom), o.m[10] = -2 / (far - near);
    o.m[12] = -(right + left) / (right - left), o.m[13] = -(top + bottom) / (top - bottom);
    o.m[14] = -(far + near) / (far - near);
    return o;
}

// -- the scene

struct Box {
    float low[3], high[3], color[3];
};

static const float FLOOR = 40;  // half its side
static const std::vector<Box> BOXES = {
    {{-4, 0, -6}, {-2, 2, -4}, {0.8f, 0.3f, 0.2f}},      {{1, 0, -9}, {3, 1.5f, -7}, {0.2f, 0.6f, 0.3f}},
    {{-0.5f, 0, -3}, {0.5f, 0.8f, -2}, {0.8f, 0.7f, 0.2f}}, {{4, 0, -5}, {5, 1.8f, -1}, {0.5f, 0.3f, 0.7f}},
    {{-9, 0, -16}, {-5, 2, -13}, {0.3f, 0.5f, 0.7f}},
};

struct Vertex {
    float position[3], color[3];
};

static void add_quad(std::vector<Vertex>& to, const float (&p)[4][3], const float color[3], float light) {
    for (int corner : {0, 1, 2, 0, 2, 3}) {
        Vertex v;
        for (int i = 0; i < 3; ++i) v.position[i] = p[corner][i], v.color[i] = color[i] * light;
        to.push_back(v);
    }
}

static void add_box(std::vector<Vertex>& to, const Box& box) {
    const float light[3] = {0.7f, 1.0f, 0.85f};
    for (int axis = 0; axis < 3; ++axis)
        for (int side = 0; side < 2; ++side) {
            const int u = (axis + 1) % 3, v = (axis + 2) % 3;
            float p[4][3];
            for (int corner = 0; corner < 4; ++corner) {
                p[corner][axis] = side ? box.high[axis] : box.low[axis];
                p[corner][u] = corner == 1 || corner == 2 ? box.high[u] : box.low[u];
                p[corner][v] = corner >= 2 ? box.high[v] : box.low[v];
            }
            add_quad(to, p, box.color, light[axis] - 0.1f * side);
        }
}

static std::vector<Vertex> scene() {
    std::vector<Vertex> vertices;
    for (int x = -20; x < 20; ++x)
        for (int z = -20; z < 20; ++z) {
            const float side = FLOOR / 20, color[3] = {0.45f, 0.45f, 0.4f};
            const float p[4][3] = {{x * side, 0, z * side}, {(x + 1) * side, 0, z * side},
                                   {(x + 1) * side, 0, (z + 1) * side}, {x * side, 0, (z + 1) * side}};
            add_quad(vertices, p, color, (x + z) % 2 ? 1.0f : 0.7f);
        }
    for (const Box& box : BOXES) add_box(vertices, box);
    return vertices;
}

static const Box HELD = {{0.02f, -0.16f, -0.5f}, {0.12f, -0.04f, -0.25f}, {0.9f, 0.9f, 0.9f}};  // in the camera's axes
static const Box ICON = {{-0.5f, -0.5f, -3.5f}, {0.5f, 0.5f, -2.5f}, {0.9f, 0.2f, 0.6f}};

// -- options, and what a mode is made of

struct Way {
    enum Matrices { FIXED, SEPARATE, COMBINED, BUFFER } matrices = COMBINED;
    enum Window { GLX, EGL, EGL_PBUFFER } window = GLX;
    enum Target { WINDOW, TEXTURE, RENDERBUFFER } target = WINDOW;  // where the scene is drawn
    bool core = true, es = false, loader = false;
    int samples = 0;
    float scale = 1;  // of the target against the window
    bool quad = false;  // the target is drawn with a shader, not blitted
    bool reversed = false, infinite = false, flipped_range = false, ortho = false;
    bool held = false, icon = false, icon_clears = false, hud = false, shadow = false;
    bool resize = false, second_window = false, odd_state = false;
    int menu_until = 0;   // frames without depth at the start
    int stale_after = 0;  // from this frame on only the colour changes
};

static std::map<std::string, Way> ways() {
    std::map<std::string, Way> all;
    Way fixed;
    fixed.matrices = Way::FIXED, fixed.core = false;
    Way plain;
    Way target;
    target.target = Way::TEXTURE;
    const auto with = [&](const char* name, Way way, const std::function<void(Way&)>& change) {
        change(way);
        all[name] = way;
    };
    with("fixed", fixed, [](Way&) {});
    with("separate", plain, [](Way& w) { w.matrices = Way::SEPARATE; });
    with("combined", plain, [](Way&) {});
    with("buffer", plain, [](Way& w) { w.matrices = Way::BUFFER; });
    with("infinite", fixed, [](Way& w) { w.infinite = true; });
    with("ortho", fixed, [](Way& w) { w.ortho = true; });
    with("deferred", target, [](Way& w) { w.quad = true, w.matrices = Way::SEPARATE; });
    with("blit", target, [](Way&) {});
    with("renderbuffer", target, [](Way& w) { w.target = Way::RENDERBUFFER; });
    with("msaa", target, [](Way& w) { w.target = Way::RENDERBUFFER, w.samples = 4; });
    with("msaa_window", fixed, [](Way& w) { w.samples = 4; });
    with("half", target, [](Way& w) { w.scale = 0.5f; });
    with("shadow", plain, [](Way& w) { w.shadow = true, w.matrices = Way::SEPARATE; });
    with("held", fixed, [](Way& w) { w.held = true; });
    with("held_target", target, [](Way& w) { w.held = true, w.quad = true; });
    with("icon", fixed, [](Way& w) { w.icon = w.icon_clears = true; });
    with("icon_kept", fixed, [](Way& w) { w.icon = true; });
    with("hud", fixed, [](Way& w) { w.hud = true; });
    with("everything", fixed, [](Way& w) { w.held = w.icon = w.icon_clears = w.hud = true; });
    with("reversed", target, [](Way& w) { w.reversed = w.quad = true; });
    with("reversed_infinite", target, [](Way& w) { w.reversed = w.infinite = w.quad = true; });
    with("flipped_range", fixed, [](Way& w) { w.flipped_range = true; });
    with("egl", plain, [](Way& w) { w.window = Way::EGL; });
    with("pbuffer", plain, [](Way& w) { w.window = Way::EGL_PBUFFER; });
    with("es", plain, [](Way& w) { w.window = Way::EGL, w.es = true; });
    with("loader", plain, [](Way& w) { w.loader = true; });
    with("resize", fixed, [](Way& w) { w.resize = true; });
    with("resize_target", target, [](Way& w) { w.resize = w.quad = true; });
    with("two_windows", fixed, [](Way& w) { w.second_window = true; });
    with("menu", fixed, [](Way& w) { w.menu_until = 40, w.hud = true; });
    with("stale", target, [](Way& w) { w.stale_after = 40; });
    with("odd_state", plain, [](Way& w) { w.odd_state = true; });
    return all;
}

// -- OpenGL's functions, found in the way of the mode

#define OLD_FUNCTIONS(X)                                                                                             \
    X(Begin) X(BindTexture) X(BlendFunc) X(Clear) X(ClearColor) X(ClearDepth) X(Color3fv) X(ColorMask) X(DepthFunc)   \
    X(DepthMask) X(DepthRange) X(Disable) X(DrawArrays) X(DrawBuffer) X(Enable) X(End) X(GenTextures) X(GetError)     \
    X(GetIntegerv) X(LoadIdentity) X(LoadMatrixf) X(MatrixMode) X(MultMatrixf) X(PixelStorei) X(ReadBuffer) X(Scissor) \
    X(TexImage2D) X(TexParameteri) X(Vertex3fv) X(Viewport) X(DeleteTextures)
#define NEW_FUNCTIONS(X)                                                                                              \
    X(ActiveTexture) X(AttachShader) X(BindBuffer) X(BindBufferBase) X(BindFramebuffer) X(BindRenderbuffer)            \
    X(BindVertexArray) X(BlitFramebuffer) X(BufferData) X(BufferSubData) X(CheckFramebufferStatus) X(CompileShader)    \
    X(CreateProgram) X(CreateShader) X(DeleteFramebuffers) X(DeleteRenderbuffers) X(EnableVertexAttribArray)           \
    X(FramebufferRenderbuffer) X(FramebufferTexture2D) X(GenBuffers) X(GenFramebuffers) X(GenRenderbuffers)            \
    X(GenVertexArrays) X(GetProgramiv) X(GetShaderInfoLog) X(GetUniformBlockIndex) X(GetUniformLocation)               \
    X(LinkProgram) X(RenderbufferStorageMultisample) X(ShaderSource) X(UniformBlockBinding) X(UniformMatrix4fv)        \
    X(UseProgram) X(VertexAttribPointer) X(GetShaderiv) X(Uniform1i)

static struct {
#define DECLARE(name) decltype(&::gl##name) name;
    OLD_FUNCTIONS(DECLARE) NEW_FUNCTIONS(DECLARE)
    decltype(&::glClipControl) ClipControl;
#undef DECLARE
} gl;

static struct {
    decltype(&::glXSwapBuffers) swap = ::glXSwapBuffers;
    decltype(&::glXGetProcAddressARB) find = ::glXGetProcAddressARB;
} glx;

static void load_functions(const Way& way) {
    void* library = way.loader ? dlopen("libGL.so.1", RTLD_NOW | RTLD_LOCAL) : nullptr;
    if (way.loader && !library) fail("no libGL.so.1");
    if (library) {  // as SDL does: nothing is linked, everything is asked of the library
        glx.swap = reinterpret_cast<decltype(glx.swap)>(dlsym(library, "glXSwapBuffers"));
        glx.find = reinterpret_cast<decltype(glx.find)>(dlsym(library, "glXGetProcAddressARB"));
    }
    const auto find = [&](const char* name) -> void* {
        void* found;
        if (way.window == Way::GLX)
            found = reinterpret_cast<void*>(glx.find(reinterpret_cast<const GLubyte*>(name)));
        else
            found = reinterpret_cast<void*>(eglGetProcAddress(name));
        if (!found && !way.es) fail(std::string("no function ") + name);
        return found;
    };
#define DIRECT(name)                                                                                               \
    gl.name = library  ? reinterpret_cast<decltype(gl.name)>(dlsym(library, "gl" #name))                            \
              : way.es ? reinterpret_cast<decltype(gl.name)>(find("gl" #name))                                      \
                       : ::gl##name;
#define FOUND(name) gl.name = reinterpret_cast<decltype(gl.name)>(find("gl" #name));
    OLD_FUNCTIONS(DIRECT)
    NEW_FUNCTIONS(FOUND)
    if (way.reversed) FOUND(ClipControl)
#undef DIRECT
#undef FOUND
}

// -- windows

static int width = 320, height = 240;

struct Surface {
    virtual ~Surface() = default;
    virtual void current() = 0;
    virtual void swap() = 0;
    virtual void resize(int, int) {}
};

static Display* x_display() {
    static Display* display = XOpenDisplay(nullptr);
    if (!display) fail("there is no display");
    return display;
}

static Window x_window(const XVisualInfo* visual, int w, int h, int x) {
    Display* display = x_display();
    XSetWindowAttributes attributes{};
    attributes.colormap = XCreateColormap(display, DefaultRootWindow(display), visual->visual, AllocNone);
    const Window window = XCreateWindow(display, DefaultRootWindow(display), x, 0, w, h, 0, visual->depth, InputOutput,
                                          visual->visual, CWColormap, &attributes);
    XMapWindow(display, window);
    XSync(display, False);
    return window;
}

class GlxWindow : public Surface {
public:
    GlxWindow(const Way& way, int w, int h, int x) {
        const int wanted[] = {GLX_RENDER_TYPE, GLX_RGBA_BIT, GLX_DOUBLEBUFFER, True, GLX_RED_SIZE, 8, GLX_GREEN_SIZE, 8,
                              GLX_BLUE_SIZE, 8, GLX_DEPTH_SIZE, 24, GLX_SAMPLES,
                              way.target == Way::WINDOW ? way.samples : 0, None};
        int count = 0;
        GLXFBConfig* configs = glXChooseFBConfig(x_display(), DefaultScreen(x_display()), wanted, &count);
        if (!count) fail("no framebuffer configuration");
        XVisualInfo* visual = glXGetVisualFromFBConfig(x_display(), configs[0]);
        window_ = x_window(visual, w, h, x);
        const auto create = reinterpret_cast<PFNGLXCREATECONTEXTATTRIBSARBPROC>(
            glx.find(reinterpret_cast<const GLubyte*>("glXCreateContextAttribsARB")));
        const int core[] = {GLX_CONTEXT_MAJOR_VERSION_ARB, 3, GLX_CONTEXT_MINOR_VERSION_ARB, 3,
                            GLX_CONTEXT_PROFILE_MASK_ARB, GLX_CONTEXT_CORE_PROFILE_BIT_ARB, None};
        context_ = way.core ? create(x_display(), configs[0], nullptr, True, core)
                            : glXCreateNewContext(x_display(), configs[0], GLX_RGBA_TYPE, nullptr, True);
        if (!context_) fail("no context");
        current();
    }
    void current() override { glXMakeCurrent(x_display(), window_, context_); }
    void swap() override { glx.swap(x_display(), window_); }
    void resize(int w, int h) override {
        XResizeWindow(x_display(), window_, w, h);
        XSync(x_display(), False);
    }

private:
    Window window_;
    GLXContext context_;
};

class EglWindow : public Surface {
public:
    EglWindow(const Way& way, int w, int h) {
        if (way.window == Way::EGL_PBUFFER)  // needs no display at all
            display_ = eglGetPlatformDisplay(EGL_PLATFORM_SURFACELESS_MESA, EGL_DEFAULT_DISPLAY, nullptr);
        else
            display_ = eglGetDisplay(reinterpret_cast<EGLNativeDisplayType>(x_display()));
        if (!eglInitialize(display_, nullptr, nullptr)) fail("no EGL display");
        eglBindAPI(way.es ? EGL_OPENGL_ES_API : EGL_OPENGL_API);
        const bool pbuffer = way.window == Way::EGL_PBUFFER;
        const EGLint wanted[] = {EGL_SURFACE_TYPE, pbuffer ? EGL_PBUFFER_BIT : EGL_WINDOW_BIT, EGL_RENDERABLE_TYPE,
                                 way.es ? EGL_OPENGL_ES3_BIT : EGL_OPENGL_BIT, EGL_RED_SIZE, 8, EGL_GREEN_SIZE, 8,
                                 EGL_BLUE_SIZE, 8, EGL_DEPTH_SIZE, 24, EGL_NONE};
        EGLConfig config;
        EGLint count = 0;
        if (!eglChooseConfig(display_, wanted, &config, 1, &count) || !count) fail("no EGL configuration");
        if (pbuffer) {
            const EGLint size[] = {EGL_WIDTH, w, EGL_HEIGHT, h, EGL_NONE};
            surface_ = eglCreatePbufferSurface(display_, config, size);
        } else {
            EGLint id = 0;
            eglGetConfigAttrib(display_, config, EGL_NATIVE_VISUAL_ID, &id);
            XVisualInfo like{};
            like.visualid = id;
            XVisualInfo* visual = XGetVisualInfo(x_display(), VisualIDMask, &like, &count);
            if (!visual) fail("no visual for EGL");
            surface_ = eglCreateWindowSurface(display_, config, x_window(visual, w, h, 0), nullptr);
        }
        const EGLint core[] = {EGL_CONTEXT_MAJOR_VERSION, 3, EGL_CONTEXT_MINOR_VERSION, way.es ? 0 : 3, EGL_NONE};
        context_ = eglCreateContext(display_, config, EGL_NO_CONTEXT, core);
        if (!context_) fail("no EGL context");
        current();
    }
    void current() override { eglMakeCurrent(display_, surface_, surface_, context_); }
    void swap() override { eglSwapBuffers(display_, surface_); }

private:
    EGLDisplay display_;
    EGLSurface surface_;
    EGLContext context_;
};

// -- drawing

static const char* VERTEX_SHADER = R"(
layout(location = 0) in vec3 position;
layout(location = 1) in vec3 color;
out vec3 shade;
#if MATRICES == 1
uniform mat4 projection, view, model;
void main() { gl_Position = projection * view * model * vec4(position, 1.0); shade = color; }
#elif MATRICES == 2
uniform mat4 mvp;
void main() { gl_Position = mvp * vec4(position, 1.0); shade = color; }
#else
layout(std140) uniform Camera { mat4 projection; mat4 view; };
void main() { gl_Position = projection * view * vec4(position, 1.0); shade = color; }
#endif
)";
static const char* FRAGMENT_SHADER = R"(
in vec3 shade;
out vec4 result;
void main() { result = vec4(shade, 1.0); }
)";
static const char* QUAD_VERTEX_SHADER = R"(
out vec2 at;
void main() {
    at = vec2(gl_VertexID & 1, gl_VertexID >> 1) * 2.0;
    gl_Position = vec4(at * 2.0 - 1.0, 0.0, 1.0);
}
)";
static const char* QUAD_FRAGMENT_SHADER = R"(
uniform sampler2D picture;
in vec2 at;
out vec4 result;
void main() { result = texture(picture, at); }
)";

static GLuint program(const Way& way, const char* vertex, const char* fragment) {
    const GLuint made = gl.CreateProgram();
    std::string head = way.es ? "#version 300 es\nprecision highp float;\n" : "#version 330 core\n";
    head += "#define MATRICES " + std::to_string(way.matrices) + "\n";
    for (const auto& [kind, text] : {std::pair{GL_VERTEX_SHADER, vertex}, std::pair{GL_FRAGMENT_SHADER, fragment}}) {
        const GLuint shader = gl.CreateShader(kind);
        const char* parts[] = {head.c_str(), text};
        gl.ShaderSource(shader, 2, parts, nullptr);
        gl.CompileShader(shader);
        GLint good = 0;
        gl.GetShaderiv(shader, GL_COMPILE_STATUS, &good);
        if (!good) {
            char log[1000] = "";
            gl.GetShaderInfoLog(shader, sizeof log, nullptr, log);
            fail(log);
        }
        gl.AttachShader(made, shader);
    }
    gl.LinkProgram(made);
    return made;
}

struct Mesh {
    std::vector<Vertex> vertices;
    GLuint array = 0, buffer = 0;
};

struct Framebuffer {
    GLuint id = 0, color = 0, depth = 0;
    int width = 0, height = 0;
};

class Painter {
public:
    explicit Painter(const Way& way) : way_(way) {
        scene_.vertices = ::scene();
        add_box(held_.vertices, HELD);
        add_box(icon_.vertices, ICON);
        const float panel[4][3] = {{8, 8, 0}, {88, 8, 0}, {88, 28, 0}, {8, 28, 0}}, color[3] = {0.95f, 0.75f, 0.1f};
        add_quad(panel_.vertices, panel, color, 1);
        if (way.matrices != Way::FIXED) {
            program_ = program(way, VERTEX_SHADER, FRAGMENT_SHADER);
            for (Mesh* mesh : {&scene_, &held_, &icon_, &panel_}) upload(*mesh);
            if (way.matrices == Way::BUFFER) {
                gl.GenBuffers(1, &matrices_);
                gl.BindBuffer(GL_UNIFORM_BUFFER, matrices_);
                gl.BufferData(GL_UNIFORM_BUFFER, 2 * sizeof(Matrix), nullptr, GL_DYNAMIC_DRAW);
                gl.UniformBlockBinding(program_, gl.GetUniformBlockIndex(program_, "Camera"), 1);
                gl.BindBufferBase(GL_UNIFORM_BUFFER, 1, matrices_);
            }
        }
        if (way.quad) {
            quad_ = program(way, QUAD_VERTEX_SHADER, QUAD_FRAGMENT_SHADER);
            gl.GenVertexArrays(1, &empty_);
        }
        if (way.shadow) shadow_ = framebuffer(512, 512, false);
        if (way.odd_state) {
            gl.GenBuffers(1, &pack_);
            gl.BindBuffer(GL_PIXEL_PACK_BUFFER, pack_);
            gl.BufferData(GL_PIXEL_PACK_BUFFER, 64, nullptr, GL_STREAM_READ);
            gl.GenRenderbuffers(1, &renderbuffer_);
        }
    }

    // Draws one frame; the camera of the frame as its matrices.
    void frame(int number, const Matrix& projection, const Matrix& view) {
        const bool menu = number < way_.menu_until, stale = way_.stale_after && number >= way_.stale_after;
        if (way_.shadow) draw_shadow_map();
        const bool own = way_.target != Way::WINDOW;
        if (own) {
            const int w = int(width * way_.scale), h = int(height * way_.scale);
            if (target_.width != w || target_.height != h) {
                forget(target_);
                target_ = framebuffer(w, h, true);
            }
        }
        gl.BindFramebuffer(GL_FRAMEBUFFER, own ? target_.id : 0);
        gl.Viewport(0, 0, own ? target_.width : width, own ? target_.height : height);
        clear(number, stale);
        if (menu || stale) {
            gl.Disable(GL_DEPTH_TEST);  // a picture without depth
        } else {
            gl.Enable(GL_DEPTH_TEST);
            draw(scene_, projection, view);
            if (way_.held) {
                gl.Clear(GL_DEPTH_BUFFER_BIT);
                draw(held_, perspective(0.9f, float(width) / height, 0.05f, 10), Matrix());
            }
            if (way_.icon) draw_icon();
        }
        if (own) show_target();
        if (way_.hud || stale) {
            gl.Disable(GL_DEPTH_TEST);
            draw(panel_, orthographic(0, width, 0, height, -1, 1), translation(float(number % 40), 0, 0));
        }
    }

    void make_state_odd() {
        gl.PixelStorei(GL_PACK_ALIGNMENT, 8);
        gl.PixelStorei(GL_PACK_ROW_LENGTH, 1003);
        gl.PixelStorei(GL_PACK_SKIP_PIXELS, 5);
        gl.PixelStorei(GL_PACK_SKIP_ROWS, 3);
        gl.PixelStorei(GL_PACK_SWAP_BYTES, 1);
        gl.BindBuffer(GL_PIXEL_PACK_BUFFER, pack_);
        gl.BindRenderbuffer(GL_RENDERBUFFER, renderbuffer_);
        gl.ActiveTexture(GL_TEXTURE3);
        gl.ReadBuffer(GL_FRONT);
        gl.Enable(GL_SCISSOR_TEST);
        gl.Scissor(7, 9, 11, 13);
        gl.ColorMask(GL_TRUE, GL_FALSE, GL_TRUE, GL_FALSE);
        gl.DepthMask(GL_FALSE);
    }

    void make_state_plain() {
        gl.Disable(GL_SCISSOR_TEST);
        gl.ColorMask(GL_TRUE, GL_TRUE, GL_TRUE, GL_TRUE);
        gl.DepthMask(GL_TRUE);
        gl.ActiveTexture(GL_TEXTURE0);
    }

private:
    Way way_;
    Mesh scene_, held_, icon_, panel_;
    Framebuffer target_, shadow_;
    GLuint program_ = 0, quad_ = 0, empty_ = 0, matrices_ = 0, pack_ = 0, renderbuffer_ = 0;

    void upload(Mesh& mesh) {
        gl.GenVertexArrays(1, &mesh.array);
        gl.BindVertexArray(mesh.array);
        gl.GenBuffers(1, &mesh.buffer);
        gl.BindBuffer(GL_ARRAY_BUFFER, mesh.buffer);
        gl.BufferData(GL_ARRAY_BUFFER, GLsizeiptr(mesh.vertices.size() * sizeof(Vertex)), mesh.vertices.data(),
                      GL_STATIC_DRAW);
        for (GLuint index : {0u, 1u}) {
            gl.EnableVertexAttribArray(index);
            gl.VertexAttribPointer(index, 3, GL_FLOAT, GL_FALSE, sizeof(Vertex),
                                   reinterpret_cast<void*>(index * sizeof(Vertex::position)));
        }
    }

    void clear(int number, bool color_only) {
        gl.ClearColor(float(number % 256) / 255, float(number / 256 % 256) / 255, 1, 1);
        if (way_.reversed) {
            gl.ClipControl(GL_LOWER_LEFT, GL_ZERO_TO_ONE);
            gl.ClearDepth(0);
            gl.DepthFunc(GL_GREATER);
        } else if (way_.flipped_range) {
            gl.DepthRange(1, 0);
            gl.ClearDepth(0);
            gl.DepthFunc(GL_GREATER);
        } else if (!way_.es) {
            gl.ClearDepth(1);
            gl.DepthFunc(GL_LESS);
        }
        gl.Clear(GL_COLOR_BUFFER_BIT | (color_only ? 0 : GL_DEPTH_BUFFER_BIT));
    }

    void draw(const Mesh& mesh, const Matrix& projection, const Matrix& view) {
        if (way_.matrices == Way::FIXED) {
            gl.MatrixMode(GL_PROJECTION);
            gl.LoadIdentity();
            gl.MultMatrixf(projection.m);
            gl.MatrixMode(GL_MODELVIEW);
            gl.LoadMatrixf(view.m);
            gl.Begin(GL_TRIANGLES);
            for (const Vertex& vertex : mesh.vertices) gl.Color3fv(vertex.color), gl.Vertex3fv(vertex.position);
            gl.End();
            return;
        }
        gl.UseProgram(program_);
        const auto set = [&](const char* name, const Matrix& value) {
            gl.UniformMatrix4fv(gl.GetUniformLocation(program_, name), 1, GL_FALSE, value.m);
        };
        if (way_.matrices == Way::SEPARATE) {
            set("projection", projection);
            set("view", view);
            set("model", Matrix());
        } else if (way_.matrices == Way::COMBINED) {
            set("mvp", projection * view);
        } else {
            gl.BindBuffer(GL_UNIFORM_BUFFER, matrices_);
            gl.BufferSubData(GL_UNIFORM_BUFFER, 0, sizeof(Matrix), projection.m);
            gl.BufferSubData(GL_UNIFORM_BUFFER, sizeof(Matrix), sizeof(Matrix), view.m);
        }
        gl.BindVertexArray(mesh.array);
        gl.DrawArrays(GL_TRIANGLES, 0, GLsizei(mesh.vertices.size()));
    }

    // A model in the corner of the screen, with a projection of its own, written into depth.
    void draw_icon() {
        gl.Viewport(width - 64, height - 64, 64, 64);
        if (way_.icon_clears) {
            gl.Enable(GL_SCISSOR_TEST);
            gl.Scissor(width - 64, height - 64, 64, 64);
            gl.Clear(GL_DEPTH_BUFFER_BIT);
            gl.Disable(GL_SCISSOR_TEST);
        }
        draw(icon_, perspective(0.5f, 1, 1, 8), Matrix());
        gl.Viewport(0, 0, width, height);
    }

    void draw_shadow_map() {
        gl.BindFramebuffer(GL_FRAMEBUFFER, shadow_.id);
        gl.Viewport(0, 0, 512, 512);
        gl.Enable(GL_DEPTH_TEST);
        gl.ClearDepth(1);
        gl.Clear(GL_DEPTH_BUFFER_BIT);
        draw(scene_, perspective(1.2f, 1, 0.5f, 60), rotation_x(0.9f) * translation(0, -12, -8));
    }

    void show_target() {
        if (way_.quad) {
            gl.BindFramebuffer(GL_FRAMEBUFFER, 0);
            gl.Viewport(0, 0, width, height);
            gl.Disable(GL_DEPTH_TEST);
            gl.UseProgram(quad_);
            gl.BindVertexArray(empty_);
            gl.ActiveTexture(GL_TEXTURE0);
            gl.BindTexture(GL_TEXTURE_2D, target_.color);
            gl.DrawArrays(GL_TRIANGLES, 0, 3);
        } else {
            gl.BindFramebuffer(GL_READ_FRAMEBUFFER, target_.id);
            gl.BindFramebuffer(GL_DRAW_FRAMEBUFFER, 0);
            gl.BlitFramebuffer(0, 0, target_.width, target_.height, 0, 0, width, height, GL_COLOR_BUFFER_BIT,
                               GL_NEAREST);
            gl.BindFramebuffer(GL_FRAMEBUFFER, 0);
        }
        gl.Viewport(0, 0, width, height);
    }

    GLuint texture(int w, int h, GLint internal, GLenum format, GLenum type) {
        GLuint made = 0;
        gl.GenTextures(1, &made);
        gl.BindTexture(GL_TEXTURE_2D, made);
        gl.TexImage2D(GL_TEXTURE_2D, 0, internal, w, h, 0, format, type, nullptr);
        gl.TexParameteri(GL_TEXTURE_2D, GL_TEXTURE_MIN_FILTER, GL_NEAREST);
        gl.TexParameteri(GL_TEXTURE_2D, GL_TEXTURE_MAG_FILTER, GL_NEAREST);
        return made;
    }

    GLuint renderbuffer(int w, int h, GLenum internal) {
        GLuint made = 0;
        gl.GenRenderbuffers(1, &made);
        gl.BindRenderbuffer(GL_RENDERBUFFER, made);
        gl.RenderbufferStorageMultisample(GL_RENDERBUFFER, way_.samples, internal, w, h);
        return made;
    }

    Framebuffer framebuffer(int w, int h, bool color) {
        Framebuffer made{0, 0, 0, w, h};
        gl.GenFramebuffers(1, &made.id);
        gl.BindFramebuffer(GL_FRAMEBUFFER, made.id);
        const bool textures = way_.target != Way::RENDERBUFFER;
        if (textures) {
            made.depth = way_.reversed ? texture(w, h, GL_DEPTH_COMPONENT32F, GL_DEPTH_COMPONENT, GL_FLOAT)
                                       : texture(w, h, GL_DEPTH_COMPONENT24, GL_DEPTH_COMPONENT, GL_UNSIGNED_INT);
            gl.FramebufferTexture2D(GL_FRAMEBUFFER, GL_DEPTH_ATTACHMENT, GL_TEXTURE_2D, made.depth, 0);
        } else {
            made.depth = renderbuffer(w, h, GL_DEPTH24_STENCIL8);
            gl.FramebufferRenderbuffer(GL_FRAMEBUFFER, GL_DEPTH_STENCIL_ATTACHMENT, GL_RENDERBUFFER, made.depth);
        }
        if (color && textures) {
            made.color = texture(w, h, way_.quad ? GL_RGBA16F : GL_RGBA8, GL_RGBA, GL_UNSIGNED_BYTE);
            gl.FramebufferTexture2D(GL_FRAMEBUFFER, GL_COLOR_ATTACHMENT0, GL_TEXTURE_2D, made.color, 0);
        } else if (color) {
            made.color = renderbuffer(w, h, GL_RGBA8);
            gl.FramebufferRenderbuffer(GL_FRAMEBUFFER, GL_COLOR_ATTACHMENT0, GL_RENDERBUFFER, made.color);
        } else {
            gl.DrawBuffer(GL_NONE);
            gl.ReadBuffer(GL_NONE);
        }
        if (gl.CheckFramebufferStatus(GL_FRAMEBUFFER) != GL_FRAMEBUFFER_COMPLETE) fail("the framebuffer is incomplete");
        return made;
    }

    void forget(Framebuffer& old) {
        if (!old.id) return;
        gl.DeleteFramebuffers(1, &old.id);
        if (way_.target == Way::RENDERBUFFER) {
            gl.DeleteRenderbuffers(1, &old.color);
            gl.DeleteRenderbuffers(1, &old.depth);
        } else {
            gl.DeleteTextures(1, &old.color);
            gl.DeleteTextures(1, &old.depth);
        }
    }
};

// -- the state that a bridge must leave as it was

struct StateEntry {
    const char* name;
    GLenum what;
    int numbers;
    bool es;  // ES has it too
};

static const StateEntry STATE[] = {
    {"draw framebuffer", GL_DRAW_FRAMEBUFFER_BINDING, 1, true},
    {"read framebuffer", GL_READ_FRAMEBUFFER_BINDING, 1, true},
    {"read buffer", GL_READ_BUFFER, 1, true},
    {"draw buffer", GL_DRAW_BUFFER, 1, false},
    {"renderbuffer", GL_RENDERBUFFER_BINDING, 1, true},
    {"pack buffer", GL_PIXEL_PACK_BUFFER_BINDING, 1, true},
    {"unpack buffer", GL_PIXEL_UNPACK_BUFFER_BINDING, 1, true},
    {"array buffer", GL_ARRAY_BUFFER_BINDING, 1, true},
    {"uniform buffer", GL_UNIFORM_BUFFER_BINDING, 1, true},
    {"copy read buffer", GL_COPY_READ_BUFFER, 1, true},
    {"pack alignment", GL_PACK_ALIGNMENT, 1, true},
    {"pack row length", GL_PACK_ROW_LENGTH, 1, true},
    {"pack skipped pixels", GL_PACK_SKIP_PIXELS, 1, true},
    {"pack skipped rows", GL_PACK_SKIP_ROWS, 1, true},
    {"pack swapped bytes", GL_PACK_SWAP_BYTES, 1, false},
    {"active texture", GL_ACTIVE_TEXTURE, 1, true},
    {"texture", GL_TEXTURE_BINDING_2D, 1, true},
    {"program", GL_CURRENT_PROGRAM, 1, true},
    {"vertex array", GL_VERTEX_ARRAY_BINDING, 1, true},
    {"viewport", GL_VIEWPORT, 4, true},
    {"scissor box", GL_SCISSOR_BOX, 4, true},
    {"scissor test", GL_SCISSOR_TEST, 1, true},
    {"depth test", GL_DEPTH_TEST, 1, true},
    {"depth function", GL_DEPTH_FUNC, 1, true},
    {"depth mask", GL_DEPTH_WRITEMASK, 1, true},
    {"colour mask", GL_COLOR_WRITEMASK, 4, true},
    {"blending", GL_BLEND, 1, true},
    {"culling", GL_CULL_FACE, 1, true},
};

static std::vector<GLint> state(const Way& way) {
    std::vector<GLint> numbers;
    for (const StateEntry& entry : STATE) {
        GLint found[4] = {0, 0, 0, 0};
        if (entry.es || !way.es) gl.GetIntegerv(entry.what, found);
        numbers.insert(numbers.end(), found, found + 4);
    }
    if (!way.core) {
        GLint mode = 0;
        gl.GetIntegerv(GL_MATRIX_MODE, &mode);
        numbers.push_back(mode);
    }
    return numbers;
}

static void check_state(const std::vector<GLint>& before, const std::vector<GLint>& after) {
    for (size_t i = 0; i < before.size(); ++i)
        if (before[i] != after[i]) {
            const size_t entry = i / 4;
            const char* name = entry < std::size(STATE) ? STATE[entry].name : "matrix mode";
            fail(std::string("the swap changed the ") + name + " from " + std::to_string(before[i]) + " to " +
                     std::to_string(after[i]),
                 3);
        }
}

// -- programs that are no OpenGL games

static int vulkan() {
    void* library = dlopen("libvulkan.so.1", RTLD_NOW);
    if (!library) fail("no libvulkan.so.1");
    for (;;) sleep(1);
}

static double seconds() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

static volatile sig_atomic_t ending = 0;

int main(int argc, char** argv) {
    const std::string mode = argc > 1 ? argv[1] : "";
    int frames = 0, pause = 0;
    FILE *truth = nullptr, *swaps = nullptr;
    for (int i = 2; i + 1 < argc; i += 2) {
        const std::string option = argv[i];
        if (option == "--frames") frames = atoi(argv[i + 1]);
        else if (option == "--pause") pause = atoi(argv[i + 1]);
        else if (option == "--size") sscanf(argv[i + 1], "%dx%d", &width, &height);
        else if (option == "--truth") truth = fopen(argv[i + 1], "w");
        else if (option == "--swaps") swaps = fopen(argv[i + 1], "w");
        else fail("unknown option " + option);
    }
    if (mode == "vulkan") return vulkan();
    if (mode == "exits") return 5;
    if (mode == "never_swaps")
        for (;;) sleep(1);
    const auto all = ways();
    const auto chosen = all.find(mode);
    if (chosen == all.end()) fail("unknown mode '" + mode + "'");
    const Way way = chosen->second;
    for (int number : {SIGTERM, SIGINT}) signal(number, [](int) { ending = 1; });

    load_functions(way);
    Surface* window;
    Surface* second = nullptr;
    if (way.window == Way::GLX) window = new GlxWindow(way, width, height, 0);
    else window = new EglWindow(way, width, height);
    if (way.es) load_functions(way);
    if (way.second_window) {
        second = new GlxWindow(way, 160, 120, width);
        window->current();
    }
    Painter painter(way);

    const float vfov = 1.05f, near = way.infinite ? 0.1f : 0.2f, far = way.infinite ? INFINITY : 60;
    if (truth) {
        fprintf(truth, "{\"mode\": \"%s\", \"floor\": %g, \"boxes\": [", mode.c_str(), FLOOR);
        for (size_t i = 0; i < BOXES.size(); ++i)
            fprintf(truth, "%s[[%g, %g, %g], [%g, %g, %g]]", i ? ", " : "", BOXES[i].low[0], BOXES[i].low[1],
                    BOXES[i].low[2], BOXES[i].high[0], BOXES[i].high[1], BOXES[i].high[2]);
        fprintf(truth, "], \"menu_until\": %d, \"stale_after\": %d}\n", way.menu_until, way.stale_after);
    }
    double last = seconds();
    for (int number = 0; (!frames || number < frames) && !ending; ++number) {
        if (way.resize && number == 40) {
            width = width * 3 / 4, height = height * 5 / 4;
            window->resize(width, height);
        }
        const float t = float(number);
        const float eye[3] = {2 * sinf(0.05f * t), 1.6f, 5 + 0.8f * sinf(0.031f * t)};
        const float yaw = 0.3f * sinf(0.043f * t), pitch = -0.1f;
        const Matrix view = rotation_x(-pitch) * rotation_y(-yaw) * translation(-eye[0], -eye[1], -eye[2]);
        const float aspect = float(width) / height;
        const Matrix projection = way.ortho      ? orthographic(-4 * aspect, 4 * aspect, -4, 4, near, far)
                                  : way.reversed ? reversed_perspective(vfov, aspect, near, far)
                                                 : perspective(vfov, aspect, near, far);
        painter.frame(number, projection, view);
        if (truth) {
            char distance[16];
            snprintf(distance, sizeof distance, "%g", far);
            fprintf(truth, "{\"frame\": %d, \"size\": [%d, %d], \"eye\": [%.7g, %.7g, %.7g], \"yaw\": %.7g, "
                    "\"pitch\": %.7g, \"vfov\": %.7g, \"near\": %g, \"far\": %s}\n",
                    number, width, height, eye[0], eye[1], eye[2], yaw, pitch, vfov, near,
                    std::isinf(far) ? "Infinity" : distance);
            fflush(truth);
        }
        if (way.odd_state) painter.make_state_odd();
        const std::vector<GLint> before = state(way);
        const double begun = seconds();
        window->swap();
        const double done = seconds();
        check_state(before, state(way));
        if (swaps && number) {
            fprintf(swaps, "%.6f %.6f\n", done - last, done - begun);
            fflush(swaps);
        }
        last = done;
        if (way.odd_state) painter.make_state_plain();
        if (const GLenum error = gl.GetError()) fail("OpenGL error " + std::to_string(error), 3);
        if (second) {
            second->current();
            gl.Viewport(0, 0, 160, 120);
            gl.ClearColor(0.5f, float(number % 50) / 50, 0, 1);
            gl.Clear(GL_COLOR_BUFFER_BIT | GL_DEPTH_BUFFER_BIT);
            second->swap();
            window->current();
        }
        if (pause) usleep(useconds_t(pause) * 1000);
    }
    return 0;
}
