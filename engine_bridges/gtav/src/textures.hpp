// What is often asked of Direct3D's textures.
#pragma once

#include <d3d11.h>

#include "com.hpp"

namespace realmaster {

/// The texture that is seen through a view; empty where it is another kind of resource, or there is no view.
inline Com<ID3D11Texture2D> texture_of(ID3D11View* view) {
    Com<ID3D11Resource> resource;
    Com<ID3D11Texture2D> texture;
    if (view) view->GetResource(resource.into());
    if (resource) resource->QueryInterface(__uuidof(ID3D11Texture2D), texture.into_void());
    return texture;
}

inline D3D11_TEXTURE2D_DESC description(ID3D11Texture2D* texture) {
    D3D11_TEXTURE2D_DESC desc{};
    if (texture) texture->GetDesc(&desc);
    return desc;
}

/// What a texture must be to receive a copy of the first level and slice of another for the processor to read.
inline D3D11_TEXTURE2D_DESC staging_for(ID3D11Texture2D* texture) {
    D3D11_TEXTURE2D_DESC desc = description(texture);
    desc.MipLevels = desc.ArraySize = 1;
    desc.Usage = D3D11_USAGE_STAGING;
    desc.BindFlags = desc.MiscFlags = 0;
    desc.CPUAccessFlags = D3D11_CPU_ACCESS_READ;
    return desc;
}

/// Likewise for a buffer of so many bytes.
inline D3D11_BUFFER_DESC staging_bytes(UINT bytes) {
    D3D11_BUFFER_DESC desc{};
    desc.ByteWidth = bytes;
    desc.Usage = D3D11_USAGE_STAGING;
    desc.CPUAccessFlags = D3D11_CPU_ACCESS_READ;
    return desc;
}

}  // namespace realmaster
