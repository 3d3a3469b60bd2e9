#include "hooks.hpp"

#include <atomic>
#include <cstddef>

namespace realmaster::hooks {
namespace {

using Bind = void(STDMETHODCALLTYPE*)(ID3D11DeviceContext*, UINT, ID3D11RenderTargetView* const*, ID3D11DepthStencilView*);
using BindWithViews = void(STDMETHODCALLTYPE*)(ID3D11DeviceContext*, UINT, ID3D11RenderTargetView* const*,
                                               ID3D11DepthStencilView*, UINT, UINT, ID3D11UnorderedAccessView* const*,
                                               const UINT*);
using Clear = void(STDMETHODCALLTYPE*)(ID3D11DeviceContext*, ID3D11DepthStencilView*, UINT, FLOAT, UINT8);

// Places in the table, in the order of d3d11.h.
constexpr std::size_t BIND = 33, BIND_WITH_VIEWS = 34, CLEAR = 53;
constexpr int PATIENCE_MS = 2000, GRACE_MS = 20;

std::atomic<int> inside{0};
std::atomic<Watcher*> watcher{nullptr};

struct Entry {
    std::size_t place;
    void* ours;
    std::atomic<void*> original{nullptr};
    bool installed = false;
};

void STDMETHODCALLTYPE bind(ID3D11DeviceContext*, UINT, ID3D11RenderTargetView* const*, ID3D11DepthStencilView*);
void STDMETHODCALLTYPE bind_with_views(ID3D11DeviceContext*, UINT, ID3D11RenderTargetView* const*, ID3D11DepthStencilView*,
                                       UINT, UINT, ID3D11UnorderedAccessView* const*, const UINT*);
void STDMETHODCALLTYPE clear(ID3D11DeviceContext*, ID3D11DepthStencilView*, UINT, FLOAT, UINT8);

Entry entries[] = {{BIND, reinterpret_cast<void*>(&bind), {}, false},
                   {BIND_WITH_VIEWS, reinterpret_cast<void*>(&bind_with_views), {}, false},
                   {CLEAR, reinterpret_cast<void*>(&clear), {}, false}};
void** table = nullptr;  // that is patched now

void STDMETHODCALLTYPE bind(ID3D11DeviceContext* context, UINT count, ID3D11RenderTargetView* const* targets,
                            ID3D11DepthStencilView* depth) {
    const Inside here;
    reinterpret_cast<Bind>(entries[0].original.load())(context, count, targets, depth);
    if (Watcher* one = watcher) one->bound(context, count, targets, depth);
}

void STDMETHODCALLTYPE bind_with_views(ID3D11DeviceContext* context, UINT count, ID3D11RenderTargetView* const* targets,
                                       ID3D11DepthStencilView* depth, UINT first, UINT views,
                                       ID3D11UnorderedAccessView* const* unordered, const UINT* counts) {
    const Inside here;
    reinterpret_cast<BindWithViews>(entries[1].original.load())(context, count, targets, depth, first, views, unordered, counts);
    Watcher* one = watcher;
    if (one && count != D3D11_KEEP_RENDER_TARGETS_AND_DEPTH_STENCIL) one->bound(context, count, targets, depth);
}

void STDMETHODCALLTYPE clear(ID3D11DeviceContext* context, ID3D11DepthStencilView* depth, UINT what, FLOAT value,
                             UINT8 stencil) {
    const Inside here;
    if (Watcher* one = watcher) one->clears(context, depth, what, value);
    reinterpret_cast<Clear>(entries[2].original.load())(context, depth, what, value, stencil);
}

HMODULE module_of(const void* address) {
    HMODULE module = nullptr;
    GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT,
                       static_cast<const wchar_t*>(address), &module);
    return module;
}

std::string name_of(HMODULE module) {
    char path[MAX_PATH] = "";
    if (!module || !GetModuleFileNameA(module, path, MAX_PATH)) return "a program without a name";
    const std::string whole = path;
    return whole.substr(whole.find_last_of("\\/") + 1);
}

void put(void** where, void* what) {
    DWORD before = 0;
    if (!VirtualProtect(where, sizeof(void*), PAGE_EXECUTE_READWRITE, &before)) return;
    InterlockedExchangePointer(where, what);
    VirtualProtect(where, sizeof(void*), before, &before);
}

/// Whether a function is neither ours nor Direct3D's own, which may exchange its functions while it runs.
bool foreign(void** context_table, const Entry& entry) {
    void* const present = context_table[entry.place];
    const HMODULE owner = module_of(present);
    return present != entry.ours && !(owner && (owner == module_of(context_table) || owner == GetModuleHandleW(L"d3d11.dll")));
}

/// Keeps this module in memory until the game ends.
void stay() {
    static bool staying = false;
    if (staying) return;
    HMODULE module;
    staying = GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_PIN,
                                 reinterpret_cast<const wchar_t*>(&watch), &module) != 0;
}

}  // namespace

Inside::Inside() { ++inside; }
Inside::~Inside() { --inside; }

void restore() {
    for (Entry& entry : entries) {
        // Where somebody has hooked after us, his function calls ours; that cannot be undone from here.
        if (table && entry.installed && table[entry.place] == entry.ours) put(&table[entry.place], entry.original);
        entry.installed = false;
    }
    table = nullptr;
}

std::string watch(ID3D11DeviceContext* context, Watcher* who, bool over_foreign) {
    void** const now = *reinterpret_cast<void***>(context);
    if (table && table != now) restore();
    watcher = who;
    for (const Entry& entry : entries) {
        if (!over_foreign && !entry.installed && foreign(now, entry)) return name_of(module_of(now[entry.place]));
    }
    for (Entry& entry : entries) {
        if (now[entry.place] == entry.ours) continue;
        if (entry.installed && foreign(now, entry)) {
            stay();  // he came after us, and his function calls ours
            continue;
        }
        entry.original = now[entry.place];
        entry.installed = true;
        put(&now[entry.place], entry.ours);
    }
    table = now;
    return "";
}

void unwatch() {
    restore();
    watcher = nullptr;
    for (int waited = 0; inside > 0 && waited < PATIENCE_MS; ++waited) Sleep(1);
    Sleep(GRACE_MS);  // for the last instructions of a function that has just been counted out
}

}  // namespace realmaster::hooks
