#include "renderer.hpp"

#include <d3dcompiler.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace {

void must(HRESULT result, const char* what) {
    if (SUCCEEDED(result)) return;
    std::fprintf(stderr, "host: %s failed (0x%08lx)\n", what, static_cast<unsigned long>(result));
    std::exit(3);
}

const char* const SCENE_VS = R"(
cbuffer rage_matrices : register(b1) {
    row_major float4x4 gWorld; row_major float4x4 gWorldView; row_major float4x4 gWorldViewProj; row_major float4x4 gViewInverse;
};
cbuffer turned : register(b2) { row_major float4x4 rotation; };
struct O { float4 pos : SV_Position; float3 normal : NORMAL; float3 local : TEXCOORD0; };
O main(float3 p : POSITION, float3 n : NORMAL) {
    O o;
    o.pos = mul(float4(p, 1), gWorldViewProj);
    o.local = p;
    o.normal = mul(float4(n, 0), rotation).xyz;
    return o;
})";

// Albedo as square roots, normals packed: 8 bits each, and of what is left 3, 3 and 2 bits in alpha.
const char* const GBUFFER_PS = R"(
cbuffer material : register(b3) { float4 base; float4 cells; };
struct I { float4 pos : SV_Position; float3 normal : NORMAL; float3 local : TEXCOORD0; };
struct O { float4 albedo : SV_Target0; float4 normal : SV_Target1; float4 specular : SV_Target2; float4 other : SV_Target3; };
O main(I i) {
    O o;
    float3 cell = floor(i.local * cells.xyz);
    float sum = (cell.x + cell.y + cell.z) * 0.5;
    float check = (sum - floor(sum)) * 2;
    o.albedo = float4(base.xyz * (0.97 + 0.03 * check), 1);
    float3 v = normalize(i.normal) * 127 + 128;
    float3 b = floor(v * (255.0 / 256.0));
    float3 r = v - b * (256.0 / 255.0);
    float x = min(floor(r.x * 8), 7);
    float y = min(floor(r.y * 8), 7);
    float z = min(floor(r.z * 4), 3);
    o.normal = float4(b / 255, (x * 32 + y * 4 + z) / 255);
    o.specular = float4(0.1, 0.2, 0.3, 1);
    o.other = float4(0.5, 0.5, 0.5, 1);
    return o;
})";

const char* const FULL_VS = R"(
cbuffer rectangle : register(b0) { float4 place; };
struct O { float4 pos : SV_Position; float2 uv : TEXCOORD0; };
O main(float3 p : POSITION, float3 n : NORMAL) {
    O o;
    o.pos = float4(place.xy + p.xy * place.zw, 0, 1);
    o.uv = float2(o.pos.x * 0.5 + 0.5, 0.5 - o.pos.y * 0.5);
    return o;
})";

const char* const LIGHT_PS = R"(
Texture2D albedo : register(t7); Texture2D normals : register(t8); Texture2D other : register(t9);
SamplerState points : register(s0);
float4 main(float4 pos : SV_Position, float2 uv : TEXCOORD0) : SV_Target {
    float4 a = albedo.Sample(points, uv);
    float4 n = normals.Sample(points, uv);
    float there = other.Sample(points, uv).w;
    float light = 0.3 + 0.7 * saturate(dot(normalize(n.xyz * 2 - 1), float3(0.48, 0.36, 0.8)));
    float3 sky = float3(0.25, 0.4, 0.8) + uv.y * 0.25;
    return float4(lerp(sky, a.xyz * a.xyz * light, there), 1);
})";

const char* const TONE_PS = R"(
Texture2D light : register(t0); SamplerState points : register(s0);
float4 main(float4 pos : SV_Position, float2 uv : TEXCOORD0) : SV_Target {
    return float4(saturate(light.Sample(points, uv).xyz), 1);
})";

const char* const PLAIN_PS = R"(
cbuffer material : register(b3) { float4 base; float4 cells; };
float4 main(float4 pos : SV_Position, float2 uv : TEXCOORD0) : SV_Target { return base; })";

ID3DBlob* compile(const char* source, const char* target) {
    ID3DBlob *code = nullptr, *errors = nullptr;
    const HRESULT result = D3DCompile(source, std::strlen(source), nullptr, nullptr, nullptr, "main", target, 0, 0, &code, &errors);
    if (FAILED(result) && errors) std::fprintf(stderr, "%s\n", static_cast<const char*>(errors->GetBufferPointer()));
    must(result, "D3DCompile");
    return code;
}

template <typename T>
void free(T*& one) {
    if (one) one->Release();
    one = nullptr;
}

using Matrix = std::array<double, 16>;  // row-major, acting on row vectors

Matrix multiply(const Matrix& a, const Matrix& b) {
    Matrix c{};
    for (int i = 0; i < 4; ++i) {
        for (int j = 0; j < 4; ++j) {
            for (int k = 0; k < 4; ++k) c[4 * i + j] += a[4 * i + k] * b[4 * k + j];
        }
    }
    return c;
}

Matrix rows(scene::Vec a, scene::Vec b, scene::Vec c, scene::Vec d) {
    return {a.x, a.y, a.z, 0, b.x, b.y, b.z, 0, c.x, c.y, c.z, 0, d.x, d.y, d.z, 1};
}

scene::Vec times(scene::Vec v, double s) { return {v.x * s, v.y * s, v.z * s}; }
double dot(scene::Vec a, scene::Vec b) { return a.x * b.x + a.y * b.y + a.z * b.z; }

}  // namespace

struct Renderer::Impl {
    struct Target {
        ID3D11Texture2D* texture = nullptr;
        ID3D11RenderTargetView* view = nullptr;
        ID3D11ShaderResourceView* read = nullptr;
        void drop() { free(texture), free(view), free(read); }
    };
    struct Depth {
        ID3D11Texture2D* texture = nullptr;
        ID3D11DepthStencilView* view = nullptr;
        void drop() { free(texture), free(view); }
    };

    RenderOptions options;
    HWND window;
    int width, height;
    ID3D11Device* device = nullptr;
    ID3D11DeviceContext* context = nullptr;
    IDXGISwapChain* chain = nullptr;
    Target window_target, gbuffer[4], resolved[3], second[3], light, mirror[4];
    Depth depth, shadow, mirror_depth, decoy, second_depth;
    ID3D11Texture2D *of_this_step = nullptr, *of_step_before = nullptr;  // of what is late
    ID3D11VertexShader *scene_vs = nullptr, *full_vs = nullptr;
    ID3D11PixelShader *gbuffer_ps = nullptr, *light_ps = nullptr, *tone_ps = nullptr, *plain_ps = nullptr;
    ID3D11InputLayout* layout = nullptr;
    ID3D11Buffer *vertices = nullptr, *matrices = nullptr, *turned = nullptr, *material = nullptr, *rectangle = nullptr;
    ID3D11SamplerState* points = nullptr;
    ID3D11DepthStencilState *write = nullptr, *ignore = nullptr;
    ID3D11RasterizerState* raster = nullptr;
    int step = -1;  // that was drawn last

    Target target(int w, int h, DXGI_FORMAT format, int samples = 1) {
        Target made;
        D3D11_TEXTURE2D_DESC desc{};
        desc.Width = static_cast<UINT>(w);
        desc.Height = static_cast<UINT>(h);
        desc.MipLevels = desc.ArraySize = 1;
        desc.Format = format;
        desc.SampleDesc.Count = static_cast<UINT>(samples);
        desc.BindFlags = D3D11_BIND_RENDER_TARGET | D3D11_BIND_SHADER_RESOURCE;
        must(device->CreateTexture2D(&desc, nullptr, &made.texture), "CreateTexture2D");
        must(device->CreateRenderTargetView(made.texture, nullptr, &made.view), "CreateRenderTargetView");
        must(device->CreateShaderResourceView(made.texture, nullptr, &made.read), "CreateShaderResourceView");
        return made;
    }

    Depth depth_target(int w, int h, int samples = 1, bool small = false) {
        Depth made;
        D3D11_TEXTURE2D_DESC desc{};
        desc.Width = static_cast<UINT>(w);
        desc.Height = static_cast<UINT>(h);
        desc.MipLevels = desc.ArraySize = 1;
        desc.Format = small ? DXGI_FORMAT_R24G8_TYPELESS : DXGI_FORMAT_R32G8X24_TYPELESS;
        desc.SampleDesc.Count = static_cast<UINT>(samples);
        desc.BindFlags = D3D11_BIND_DEPTH_STENCIL;
        must(device->CreateTexture2D(&desc, nullptr, &made.texture), "CreateTexture2D of a depth");
        D3D11_DEPTH_STENCIL_VIEW_DESC view{};
        view.Format = small ? DXGI_FORMAT_D24_UNORM_S8_UINT : DXGI_FORMAT_D32_FLOAT_S8X24_UINT;
        view.ViewDimension = samples > 1 ? D3D11_DSV_DIMENSION_TEXTURE2DMS : D3D11_DSV_DIMENSION_TEXTURE2D;
        must(device->CreateDepthStencilView(made.texture, &view, &made.view), "CreateDepthStencilView");
        return made;
    }

    ID3D11Buffer* buffer(UINT bytes, UINT bind, const void* data = nullptr) {
        D3D11_BUFFER_DESC desc{};
        desc.ByteWidth = bytes;
        desc.Usage = data ? D3D11_USAGE_IMMUTABLE : D3D11_USAGE_DYNAMIC;
        desc.BindFlags = bind;
        desc.CPUAccessFlags = data ? 0 : D3D11_CPU_ACCESS_WRITE;
        D3D11_SUBRESOURCE_DATA initial{data, 0, 0};
        ID3D11Buffer* made = nullptr;
        must(device->CreateBuffer(&desc, data ? &initial : nullptr, &made), "CreateBuffer");
        return made;
    }

    void fill(ID3D11Buffer* into, const void* data, std::size_t bytes) {
        D3D11_MAPPED_SUBRESOURCE mapped;
        must(context->Map(into, 0, D3D11_MAP_WRITE_DISCARD, 0, &mapped), "Map");
        std::memcpy(mapped.pData, data, bytes);
        context->Unmap(into, 0);
    }

    void create() {
        DXGI_SWAP_CHAIN_DESC desc{};
        desc.BufferDesc.Width = static_cast<UINT>(width);
        desc.BufferDesc.Height = static_cast<UINT>(height);
        desc.BufferDesc.Format = options.window_format;
        desc.SampleDesc.Count = static_cast<UINT>(options.window_samples);
        desc.BufferUsage = DXGI_USAGE_RENDER_TARGET_OUTPUT;
        desc.BufferCount = 1;
        desc.OutputWindow = window;
        desc.Windowed = TRUE;
        const D3D_FEATURE_LEVEL level = D3D_FEATURE_LEVEL_11_0;
        must(D3D11CreateDeviceAndSwapChain(nullptr, D3D_DRIVER_TYPE_HARDWARE, nullptr, 0, &level, 1, D3D11_SDK_VERSION,
                                           &desc, &chain, &device, nullptr, &context),
             "D3D11CreateDeviceAndSwapChain");
        ID3DBlob* code = compile(SCENE_VS, "vs_5_0");
        must(device->CreateVertexShader(code->GetBufferPointer(), code->GetBufferSize(), nullptr, &scene_vs), "a shader");
        const D3D11_INPUT_ELEMENT_DESC elements[] = {
            {"POSITION", 0, DXGI_FORMAT_R32G32B32_FLOAT, 0, 0, D3D11_INPUT_PER_VERTEX_DATA, 0},
            {"NORMAL", 0, DXGI_FORMAT_R32G32B32_FLOAT, 0, 12, D3D11_INPUT_PER_VERTEX_DATA, 0}};
        must(device->CreateInputLayout(elements, 2, code->GetBufferPointer(), code->GetBufferSize(), &layout), "a layout");
        code->Release();
        code = compile(FULL_VS, "vs_5_0");
        must(device->CreateVertexShader(code->GetBufferPointer(), code->GetBufferSize(), nullptr, &full_vs), "a shader");
        code->Release();
        const auto pixel = [&](const char* source, ID3D11PixelShader** into) {
            ID3DBlob* made = compile(source, "ps_5_0");
            must(device->CreatePixelShader(made->GetBufferPointer(), made->GetBufferSize(), nullptr, into), "a shader");
            made->Release();
        };
        pixel(GBUFFER_PS, &gbuffer_ps);
        pixel(LIGHT_PS, &light_ps);
        pixel(TONE_PS, &tone_ps);
        pixel(PLAIN_PS, &plain_ps);

        std::vector<float> cube;
        for (int axis = 0; axis < 3; ++axis) {
            for (int side = -1; side <= 1; side += 2) {
                const int corners[6][2] = {{-1, -1}, {1, -1}, {1, 1}, {-1, -1}, {1, 1}, {-1, 1}};
                for (const auto& corner : corners) {
                    float p[3], n[3] = {0, 0, 0};
                    p[axis] = static_cast<float>(side);
                    n[axis] = static_cast<float>(side);
                    p[(axis + 1) % 3] = static_cast<float>(corner[0]);
                    p[(axis + 2) % 3] = static_cast<float>(corner[1]);
                    cube.insert(cube.end(), {p[0], p[1], p[2], n[0], n[1], n[2]});
                }
            }
        }
        vertices = buffer(static_cast<UINT>(cube.size() * 4), D3D11_BIND_VERTEX_BUFFER, cube.data());
        matrices = buffer(256, D3D11_BIND_CONSTANT_BUFFER);
        turned = buffer(64, D3D11_BIND_CONSTANT_BUFFER);
        material = buffer(32, D3D11_BIND_CONSTANT_BUFFER);
        rectangle = buffer(16, D3D11_BIND_CONSTANT_BUFFER);
        D3D11_SAMPLER_DESC sampler{};
        sampler.Filter = D3D11_FILTER_MIN_MAG_MIP_POINT;
        sampler.AddressU = sampler.AddressV = sampler.AddressW = D3D11_TEXTURE_ADDRESS_CLAMP;
        sampler.MaxLOD = D3D11_FLOAT32_MAX;
        must(device->CreateSamplerState(&sampler, &points), "a sampler");
        D3D11_DEPTH_STENCIL_DESC states{};
        states.DepthEnable = TRUE;
        states.DepthWriteMask = D3D11_DEPTH_WRITE_MASK_ALL;
        states.DepthFunc = D3D11_COMPARISON_GREATER;
        states.StencilEnable = TRUE;
        states.StencilReadMask = states.StencilWriteMask = 255;
        states.FrontFace = {D3D11_STENCIL_OP_KEEP, D3D11_STENCIL_OP_KEEP, D3D11_STENCIL_OP_REPLACE, D3D11_COMPARISON_ALWAYS};
        states.BackFace = states.FrontFace;
        must(device->CreateDepthStencilState(&states, &write), "a depth state");
        states.DepthEnable = states.StencilEnable = FALSE;
        must(device->CreateDepthStencilState(&states, &ignore), "a depth state");
        D3D11_RASTERIZER_DESC rasterizer{};
        rasterizer.FillMode = D3D11_FILL_SOLID;
        rasterizer.CullMode = D3D11_CULL_NONE;
        rasterizer.DepthClipEnable = TRUE;
        rasterizer.MultisampleEnable = options.samples > 1;
        must(device->CreateRasterizerState(&rasterizer, &raster), "a rasterizer state");
        shadow = depth_target(512, 512);
        create_sized();
    }

    void create_sized() {
        must(chain->GetBuffer(0, __uuidof(ID3D11Texture2D), reinterpret_cast<void**>(&window_target.texture)), "GetBuffer");
        must(device->CreateRenderTargetView(window_target.texture, nullptr, &window_target.view), "a view of the window");
        const int w = static_cast<int>(width * options.scale), h = static_cast<int>(height * options.scale);
        for (Target& one : gbuffer) one = target(w, h, DXGI_FORMAT_R8G8B8A8_UNORM, options.samples);
        if (options.samples > 1) {
            for (Target& one : resolved) one = target(w, h, DXGI_FORMAT_R8G8B8A8_UNORM);
        }
        depth = depth_target(w, h, options.samples, options.wrong_depth);
        light = target(width, height, DXGI_FORMAT_R16G16B16A16_FLOAT);
        for (Target& one : mirror) one = target(width / 2, height / 2, DXGI_FORMAT_R8G8B8A8_UNORM);
        mirror_depth = depth_target(width / 2, height / 2);
        if (options.decoy) decoy = depth_target(width, height);
        if (options.ambiguous) {
            for (Target& one : second) one = target(width, height, DXGI_FORMAT_R8G8B8A8_UNORM);
            second_depth = depth_target(width, height);
        }
    }

    void drop_sized() {
        context->ClearState();
        for (Target* one : {&window_target, &light}) one->drop();
        for (Target& one : gbuffer) one.drop();
        for (Target& one : resolved) one.drop();
        for (Target& one : second) one.drop();
        for (Target& one : mirror) one.drop();
        for (Depth* one : {&depth, &mirror_depth, &decoy, &second_depth}) one->drop();
        free(of_this_step), free(of_step_before);
        context->Flush();
    }

    void viewport(int w, int h) {
        const D3D11_VIEWPORT port{0, 0, static_cast<float>(w), static_cast<float>(h), 0, 1};
        context->RSSetViewports(1, &port);
    }

    /// Draws every `of`-th box, beginning with `part`.
    void boxes(const scene::State& state, double aspect, std::size_t part = 0, std::size_t of = 1) {
        const scene::Camera& camera = state.camera;
        const double tall = 1 / std::tan(camera.fov * 3.14159265358979323846 / 360), n = camera.near_clip, f = camera.far_clip;
        const scene::Vec back = times(camera.pose.forward, -1);
        const Matrix inverse = rows(camera.pose.right, camera.pose.up, back, camera.pose.at);
        const scene::Vec away{-dot(camera.pose.at, camera.pose.right), -dot(camera.pose.at, camera.pose.up),
                              -dot(camera.pose.at, back)};
        const Matrix view{camera.pose.right.x, camera.pose.up.x, back.x, 0, camera.pose.right.y, camera.pose.up.y, back.y, 0,
                          camera.pose.right.z, camera.pose.up.z, back.z, 0, away.x, away.y, away.z, 1};
        const Matrix projection{tall / aspect, 0, 0, 0, 0, tall, 0, 0, 0, 0, n / (f - n), -1, 0, 0, n * f / (f - n), 0};
        context->IASetInputLayout(layout);
        context->IASetPrimitiveTopology(D3D11_PRIMITIVE_TOPOLOGY_TRIANGLELIST);
        const UINT stride = 24, offset = 0;
        context->IASetVertexBuffers(0, 1, &vertices, &stride, &offset);
        context->VSSetShader(scene_vs, nullptr, 0);
        context->PSSetShader(gbuffer_ps, nullptr, 0);
        ID3D11Buffer* const bound[] = {matrices, turned};
        context->VSSetConstantBuffers(1, 2, bound);
        context->PSSetConstantBuffers(3, 1, &material);
        context->RSSetState(raster);
        for (std::size_t i = part; i < state.boxes.size(); i += of) {
            const scene::Box& box = state.boxes[i];
            const scene::Pose& p = box.pose;
            const Matrix world = rows(times(p.right, box.half.x), times(p.forward, box.half.y), times(p.up, box.half.z), p.at);
            const Matrix turn = rows(p.right, p.forward, p.up, {});
            const Matrix seen = multiply(world, view), clip = multiply(seen, projection);
            float out[64];
            const Matrix* const all[] = {&world, &seen, &clip, &inverse};
            for (int m = 0; m < 4; ++m) {
                for (int k = 0; k < 16; ++k) {
                    out[16 * m + k] = static_cast<float>(options.hide_matrices && m != 2 ? 0.37 * k - m : (*all[m])[k]);
                }
            }
            fill(matrices, out, sizeof out);
            float rotation[16];
            for (int k = 0; k < 16; ++k) rotation[k] = static_cast<float>(turn[k]);
            fill(turned, rotation, sizeof rotation);
            const float colors[8] = {static_cast<float>(std::sqrt(box.color.x)), static_cast<float>(std::sqrt(box.color.y)),
                                     static_cast<float>(std::sqrt(box.color.z)), 1, static_cast<float>(box.half.x > 100 ? 100 : 2),
                                     static_cast<float>(box.half.y > 100 ? 100 : 2), 2, 0};
            fill(material, colors, sizeof colors);
            context->OMSetDepthStencilState(write, box.stencil);
            context->Draw(36, 0);
        }
    }

    void full(ID3D11PixelShader* shader, UINT slot, UINT count, ID3D11ShaderResourceView* const* read) {
        rectangle_at(0, 0, 1, 1);
        context->PSSetShader(shader, nullptr, 0);
        context->PSSetShaderResources(slot, count, read);
        context->Draw(36, 0);
        ID3D11ShaderResourceView* const none[4] = {};
        context->PSSetShaderResources(slot, count, none);
    }

    void rectangle_at(double x, double y, double half_width, double half_height) {
        const float place[4] = {static_cast<float>(x), static_cast<float>(y), static_cast<float>(half_width),
                                static_cast<float>(half_height)};
        fill(rectangle, place, sizeof place);
        context->VSSetShader(full_vs, nullptr, 0);
        context->VSSetConstantBuffers(0, 1, &rectangle);
        context->PSSetSamplers(0, 1, &points);
        context->OMSetDepthStencilState(ignore, 0);
    }

    /// A rectangle of one colour, in pixels.
    void plain(int x, int y, int w, int h, float r, float g, float b) {
        const float colors[8] = {r, g, b, 1, 0, 0, 0, 0};
        fill(material, colors, sizeof colors);
        rectangle_at((x + w / 2.0) / width * 2 - 1, 1 - (y + h / 2.0) / height * 2, static_cast<double>(w) / width,
                     static_cast<double>(h) / height);
        context->PSSetShader(plain_ps, nullptr, 0);
        context->PSSetConstantBuffers(3, 1, &material);
        context->Draw(36, 0);
    }

    void draw(const scene::State& state) {
        const float none[4] = {};
        const double aspect = static_cast<double>(width) / height;
        const int w = static_cast<int>(width * options.scale), h = static_cast<int>(height * options.scale);
        const auto bind = [&](Target* targets, UINT count, Depth* with) {
            ID3D11RenderTargetView* views[4] = {};
            for (UINT i = 0; i < count; ++i) views[i] = targets[i].view;
            context->OMSetRenderTargets(count, count ? views : nullptr, with ? with->view : nullptr);
        };
        if (options.shadow) {
            bind(nullptr, 0, &shadow);
            context->ClearDepthStencilView(shadow.view, D3D11_CLEAR_DEPTH, 0, 0);
            viewport(512, 512);
            scene::State sun = state;
            sun.camera.pose.at.z += 30;
            boxes(sun, 1);
        }
        if (options.mirror) {
            bind(mirror, 4, &mirror_depth);
            context->ClearDepthStencilView(mirror_depth.view, D3D11_CLEAR_DEPTH | D3D11_CLEAR_STENCIL, 0, 7);
            viewport(width / 2, height / 2);
            scene::State turned_around = state;
            turned_around.camera.pose.forward = times(state.camera.pose.forward, -1);
            turned_around.camera.pose.right = times(state.camera.pose.right, -1);
            boxes(turned_around, aspect);
        }
        if (options.ambiguous) {
            bind(second, 3, &second_depth);
            context->ClearDepthStencilView(second_depth.view, D3D11_CLEAR_DEPTH | D3D11_CLEAR_STENCIL, 0, 7);
            viewport(width, height);
            boxes(state, aspect);
        }
        for (int pass = 0; pass < options.passes; ++pass) {
            bind(gbuffer, 4, &depth);
            if (pass == 0) {
                for (Target& one : gbuffer) context->ClearRenderTargetView(one.view, none);
                context->ClearDepthStencilView(depth.view, D3D11_CLEAR_DEPTH | D3D11_CLEAR_STENCIL, 0, 7);
            }
            viewport(w, h);
            boxes(state, aspect, static_cast<std::size_t>(pass), static_cast<std::size_t>(options.passes));
            if (pass + 1 < options.passes) bind(nullptr, 0, nullptr);
        }
        bind(&light, 1, nullptr);
        viewport(width, height);
        ID3D11ShaderResourceView* read[3];
        const int sources[3] = {0, 1, 3};
        for (int i = 0; i < 3; ++i) {
            if (options.samples > 1) {
                context->ResolveSubresource(resolved[i].texture, 0, gbuffer[sources[i]].texture, 0, DXGI_FORMAT_R8G8B8A8_UNORM);
            }
            read[i] = options.samples > 1 ? resolved[i].read : gbuffer[sources[i]].read;
        }
        full(light_ps, 7, 3, read);
        if (options.reuse_normals) {
            bind(&gbuffer[1], 1, nullptr);
            context->ClearRenderTargetView(gbuffer[1].view, none);
        }
        if (options.decoy) {
            bind(&light, 1, &decoy);
            context->ClearDepthStencilView(decoy.view, D3D11_CLEAR_DEPTH | D3D11_CLEAR_STENCIL, 0, 3);
        }
        if (options.late == "depth") show_step_before(depth.texture, state.step);
        if (options.clear_again) {
            bind(&light, 1, &depth);
            context->ClearDepthStencilView(depth.view, D3D11_CLEAR_DEPTH | D3D11_CLEAR_STENCIL, 0, 0);
        }
        bind(&window_target, 1, nullptr);
        full(tone_ps, 0, 1, &light.read);
        // The number of the step, least bit first, is part of the picture and no HUD.
        for (int bit = 0; bit < 16; ++bit) {
            const float on = state.step >> bit & 1 ? 1.0f : 0.0f;
            plain(8 * bit, 0, 8, 8, on, on, on);
        }
        if (state.hud) {
            plain(16, height - 96, 112, 80, 0.9f, 0.1f, 0.9f);
            plain(width - 120, 16, 104, 24, 0.1f, 0.9f, 0.1f);
        }
        if (options.late == "color") show_step_before(window_target.texture, state.step);
        step = state.step;
    }

    /// Puts what was drawn in the step before into the place of what is drawn in this one.
    void show_step_before(ID3D11Texture2D* texture, int step_now) {
        if (step_now != step) {
            free(of_step_before);
            std::swap(of_this_step, of_step_before);
            D3D11_TEXTURE2D_DESC desc;
            texture->GetDesc(&desc);
            must(device->CreateTexture2D(&desc, nullptr, &of_this_step), "CreateTexture2D");
        }
        if (!of_this_step) return;  // another size since this step began
        context->CopyResource(of_this_step, texture);
        if (of_step_before) context->CopyResource(texture, of_step_before);
    }
};

Renderer::Renderer(HWND window, int width, int height, const RenderOptions& options) : impl_(new Impl) {
    impl_->options = options;
    impl_->window = window;
    impl_->width = width;
    impl_->height = height;
    impl_->create();
}

Renderer::~Renderer() {
    impl_->drop_sized();
    impl_->shadow.drop();
    free(impl_->scene_vs), free(impl_->full_vs), free(impl_->gbuffer_ps), free(impl_->light_ps), free(impl_->tone_ps);
    free(impl_->plain_ps), free(impl_->layout), free(impl_->vertices), free(impl_->matrices), free(impl_->turned);
    free(impl_->material), free(impl_->rectangle), free(impl_->points), free(impl_->write), free(impl_->ignore);
    free(impl_->raster), free(impl_->chain), free(impl_->context), free(impl_->device);
}

void Renderer::resize(int width, int height) {
    impl_->drop_sized();
    impl_->width = width;
    impl_->height = height;
    must(impl_->chain->ResizeBuffers(1, static_cast<UINT>(width), static_cast<UINT>(height), DXGI_FORMAT_UNKNOWN, 0), "ResizeBuffers");
    impl_->create_sized();
}

void Renderer::draw(const scene::State& state) { impl_->draw(state); }

void Renderer::present() { must(impl_->chain->Present(0, 0), "Present"); }

IDXGISwapChain* Renderer::swap_chain() { return impl_->chain; }

ID3D11DeviceContext* Renderer::context() { return impl_->context; }
