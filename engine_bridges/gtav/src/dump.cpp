#include "dump.hpp"

#include <windows.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <system_error>
#include <vector>

#include "shot.hpp"
#include "textures.hpp"

namespace realmaster {
namespace {

constexpr int MOST_FILES = 200;

/// Bytes of a pixel; 0 for formats that are not written (compressed ones are never drawn into).
UINT pixel_bytes(DXGI_FORMAT format) {
    if (format >= DXGI_FORMAT_R32G32B32A32_TYPELESS && format <= DXGI_FORMAT_R32G32B32A32_SINT) return 16;
    if (format >= DXGI_FORMAT_R32G32B32_TYPELESS && format <= DXGI_FORMAT_R32G32B32_SINT) return 12;
    if (format >= DXGI_FORMAT_R16G16B16A16_TYPELESS && format <= DXGI_FORMAT_X32_TYPELESS_G8X24_UINT) return 8;
    if (format >= DXGI_FORMAT_R10G10B10A2_TYPELESS && format <= DXGI_FORMAT_X24_TYPELESS_G8_UINT) return 4;
    if (format >= DXGI_FORMAT_R8G8_TYPELESS && format <= DXGI_FORMAT_R16_SINT) return 2;
    if (format >= DXGI_FORMAT_R8_TYPELESS && format <= DXGI_FORMAT_A8_UNORM) return 1;
    if (format >= DXGI_FORMAT_B8G8R8A8_UNORM && format <= DXGI_FORMAT_B8G8R8X8_UNORM_SRGB) return 4;
    return 0;
}

/// The head of a DDS file of one picture with the DX10 part (Microsoft, Programming Guide for DDS).
std::vector<std::uint32_t> dds_head(UINT width, UINT height, UINT pitch, DXGI_FORMAT format) {
    std::vector<std::uint32_t> head(37, 0);
    head[0] = 0x20534444;  // "DDS "
    head[1] = 124;
    head[2] = 0x1 | 0x2 | 0x4 | 0x8 | 0x1000;  // caps, height, width, pitch, pixel format
    head[3] = height;
    head[4] = width;
    head[5] = pitch;
    head[19] = 32;
    head[20] = 0x4;         // a four-character code:
    head[21] = 0x30315844;  // "DX10"
    head[27] = 0x1000;      // a texture
    head[32] = static_cast<std::uint32_t>(format);
    head[33] = 3;  // two-dimensional
    head[35] = 1;  // one of them
    return head;
}

std::string numbered(int number) {
    char text[16];
    std::snprintf(text, sizeof text, "%03d", number);
    return text;
}

}  // namespace

Dump::Dump(const std::filesystem::path& parent, Com<ID3D11Device> device, Com<ID3D11DeviceContext> context)
    : device_(std::move(device)), context_(std::move(context)) {
    SYSTEMTIME now;
    GetLocalTime(&now);
    char name[64];
    std::snprintf(name, sizeof name, "realmaster-dump-%04u%02u%02u-%02u%02u%02u", now.wYear, now.wMonth, now.wDay, now.wHour,
                  now.wMinute, now.wSecond);
    folder_ = parent / name;
    std::error_code error;
    std::filesystem::create_directories(folder_, error);
    if (error) problem_ = "No frame can be written to " + folder_.u8string() + ": the game's folder may not be written to.";
}

void Dump::bound(UINT count, ID3D11RenderTargetView* const* targets, ID3D11DepthStencilView* depth) {
    write_bound();
    for (UINT i = 0; i < D3D11_SIMULTANEOUS_RENDER_TARGET_COUNT; ++i) {
        targets_[i] = i < count && targets ? texture_of(targets[i]) : Com<ID3D11Texture2D>();
    }
    depth_ = texture_of(depth);
}

void Dump::clears(ID3D11DepthStencilView* depth, UINT what, float value) {
    char text[128];
    std::snprintf(text, sizeof text, "    {\"clears\": \"%p\", \"depth\": %s, \"stencil\": %s, \"to\": %g},\n",
                  static_cast<void*>(texture_of(depth).get()), what & D3D11_CLEAR_DEPTH ? "true" : "false",
                  what & D3D11_CLEAR_STENCIL ? "true" : "false", value);
    entries_ += text;
}

void Dump::write_bound() {
    std::string list;
    for (UINT i = 0; i < D3D11_SIMULTANEOUS_RENDER_TARGET_COUNT; ++i) {
        if (targets_[i]) list += write(targets_[i].get(), numbered(passes_) + "-target" + std::to_string(i)) + ", ";
    }
    const std::string depth = depth_ ? write(depth_.get(), numbered(passes_) + "-depth") : "null";
    if (list.empty() && depth == "null") return;
    if (!list.empty()) list.resize(list.size() - 2);
    entries_ += "    {\"pass\": " + std::to_string(passes_) + ", \"targets\": [" + list + "], \"depth\": " + depth +
                ", \"constants\": [" + write_constants() + "]},\n";
    ++passes_;
}

/// One texture: its line of the list.
std::string Dump::write(ID3D11Texture2D* texture, const std::string& name) {
    const D3D11_TEXTURE2D_DESC desc = description(texture);
    char text[256];
    std::snprintf(text, sizeof text,
                  "{\"texture\": \"%p\", \"width\": %u, \"height\": %u, \"dxgi_format\": %d, \"samples\": %u, \"slices\": %u, "
                  "\"levels\": %u, \"file\": ", static_cast<void*>(texture), desc.Width, desc.Height, static_cast<int>(desc.Format),
                  desc.SampleDesc.Count, desc.ArraySize, desc.MipLevels);
    std::string line = text;
    const UINT bytes = pixel_bytes(desc.Format);
    if (bytes == 0 || desc.SampleDesc.Count > 1 || desc.ArraySize > 1 || files_ >= MOST_FILES) return line + "null}";
    const D3D11_TEXTURE2D_DESC copy = staging_for(texture);
    Com<ID3D11Texture2D> staging;
    D3D11_MAPPED_SUBRESOURCE mapped;
    if (FAILED(device_->CreateTexture2D(&copy, nullptr, staging.into()))) return line + "null}";
    context_->CopySubresourceRegion(staging.get(), 0, 0, 0, 0, texture, 0, nullptr);
    if (FAILED(context_->Map(staging.get(), 0, D3D11_MAP_READ, 0, &mapped))) return line + "null}";
    std::ofstream file(folder_ / (name + ".dds"), std::ios::binary);
    const std::vector<std::uint32_t> head = dds_head(desc.Width, desc.Height, desc.Width * bytes, desc.Format);
    file.write(reinterpret_cast<const char*>(head.data()), static_cast<std::streamsize>(4 * head.size()));
    for (UINT row = 0; row < desc.Height; ++row) {
        file.write(static_cast<const char*>(mapped.pData) + static_cast<std::size_t>(row) * mapped.RowPitch, desc.Width * bytes);
    }
    context_->Unmap(staging.get(), 0);
    ++files_;
    return line + "\"" + name + ".dds\"}";
}

/// The constant buffers of the vertex shader, as numbers.
std::string Dump::write_constants() {
    std::string list;
    ID3D11Buffer* bound[CONSTANT_SLOTS] = {};
    context_->VSGetConstantBuffers(0, CONSTANT_SLOTS, bound);
    for (int i = 0; i < CONSTANT_SLOTS; ++i) {
        const Com<ID3D11Buffer> buffer = Com<ID3D11Buffer>::adopt(bound[i]);
        D3D11_BUFFER_DESC desc{};
        if (buffer) buffer->GetDesc(&desc);
        if (desc.ByteWidth == 0 || desc.ByteWidth > CONSTANT_BYTES) continue;
        const D3D11_BUFFER_DESC copy = staging_bytes(desc.ByteWidth);
        Com<ID3D11Buffer> staging;
        D3D11_MAPPED_SUBRESOURCE mapped;
        if (FAILED(device_->CreateBuffer(&copy, nullptr, staging.into()))) continue;
        context_->CopyResource(staging.get(), buffer.get());
        if (FAILED(context_->Map(staging.get(), 0, D3D11_MAP_READ, 0, &mapped))) continue;
        list += list.empty() ? "" : ", ";
        list += "{\"slot\": " + std::to_string(i) + ", \"hex\": \"";
        for (UINT at = 0; at < desc.ByteWidth; ++at) {
            char two[3];
            std::snprintf(two, sizeof two, "%02x", static_cast<const unsigned char*>(mapped.pData)[at]);
            list += two;
        }
        list += "\"}";
        context_->Unmap(staging.get(), 0);
    }
    return list;
}

void Dump::finish(ID3D11Texture2D* picture) {
    write_bound();
    const std::string shown = write(picture, "present");
    std::ofstream file(folder_ / "frame.json", std::ios::binary);
    file << "{\n  \"present\": " << shown << ",\n  \"frame\": [\n" << entries_ << "    {\"end\": true}\n  ]\n}\n";
}

}  // namespace realmaster
