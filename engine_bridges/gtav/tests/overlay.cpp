// A program of another author that hooks the same function of Direct3D 11, as overlays do; its file name is what counts.
#include <d3d11.h>

namespace {

using Bind = void(STDMETHODCALLTYPE*)(ID3D11DeviceContext*, UINT, ID3D11RenderTargetView* const*, ID3D11DepthStencilView*);

constexpr int BIND = 33;  // the place in the table of functions, in the order of d3d11.h
void** place = nullptr;
void* original = nullptr;

void STDMETHODCALLTYPE pass_on(ID3D11DeviceContext* context, UINT count, ID3D11RenderTargetView* const* targets,
                               ID3D11DepthStencilView* depth) {
    reinterpret_cast<Bind>(original)(context, count, targets, depth);
}

void put(void* what) {
    DWORD before = 0;
    VirtualProtect(place, sizeof(void*), PAGE_EXECUTE_READWRITE, &before);
    *place = what;
    VirtualProtect(place, sizeof(void*), before, &before);
}

}  // namespace

extern "C" {

__declspec(dllexport) void overlay_comes(ID3D11DeviceContext* context) {
    place = &(*reinterpret_cast<void***>(context))[BIND];
    original = *place;
    put(reinterpret_cast<void*>(&pass_on));
}

__declspec(dllexport) void overlay_goes() { put(original); }

}  // extern "C"
