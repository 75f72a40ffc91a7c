// A CUDA runtime without a GPU: memory is the host's, kernels do nothing, and what a real one would
// spend time on is counted. build.py adds the functions that PyTorch imports and that are not here;
// they do nothing and return success.
#include <cuda_runtime_api.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

namespace {

// values.py has the same fields in the same order
struct Counts {
  std::atomic<long> launches, waits, to_device, to_host, on_device, pageable;
} counts;

thread_local int current_device = 0;
std::mutex mutex;
std::map<char*, size_t> device_blocks, pinned_blocks;

int device_count() {
  const char* wanted = getenv("PRETENDED_GPUS");
  int count = wanted ? atoi(wanted) : 1;
  const char* visible = getenv("CUDA_VISIBLE_DEVICES");
  if (!visible) return count;
  int listed = *visible != 0;
  for (const char* c = visible; *c; ++c) listed += *c == ',';
  return listed < count ? listed : count;
}

bool contains(const std::map<char*, size_t>& blocks, const void* pointer) {
  std::lock_guard<std::mutex> lock(mutex);
  auto next = blocks.upper_bound((char*)pointer);
  if (next == blocks.begin()) return false;
  --next;
  return (char*)pointer < next->first + next->second;
}

cudaError_t allocate(std::map<char*, size_t>& blocks, void** pointer, size_t bytes, int content) {
  if (posix_memalign(pointer, 4096, bytes + 512)) return cudaErrorMemoryAllocation;
  memset(*pointer, content, bytes);
  std::lock_guard<std::mutex> lock(mutex);
  blocks[(char*)*pointer] = bytes;
  return cudaSuccess;
}

cudaError_t release(std::map<char*, size_t>& blocks, void* pointer) {
  std::lock_guard<std::mutex> lock(mutex);
  blocks.erase((char*)pointer);
  free(pointer);
  return cudaSuccess;
}

cudaError_t copy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  if (kind == cudaMemcpyHostToDevice) {
    ++counts.to_device;
    // The copy of memory that is not pinned holds up the host as well.
    if (!contains(pinned_blocks, from)) ++counts.pageable;
  } else {
    ++(kind == cudaMemcpyDeviceToHost ? counts.to_host : counts.on_device);
  }
  memmove(to, from, bytes);
  return cudaSuccess;
}

cudaError_t launch(dim3 grid) {
  ++counts.launches;
  return grid.x && grid.y && grid.z ? cudaSuccess : cudaErrorInvalidConfiguration;
}

template <typename Handle>
cudaError_t make(Handle* handle) {
  *handle = (Handle)calloc(1, 64);
  return cudaSuccess;
}

cudaError_t wait() {
  ++counts.waits;
  return cudaSuccess;
}

int no_driver_function() { return 0; }

struct Launch {
  dim3 grid, block;
  size_t shared;
  void* stream;
};
thread_local std::vector<Launch> launches;

}  // namespace

extern "C" {

Counts* pretended_gpu_counts() { return &counts; }

// Devices: an H100 with 80 GB.
cudaError_t cudaGetDeviceCount(int* count) { return *count = device_count(), cudaSuccess; }
cudaError_t cudaGetDevice(int* device) { return *device = current_device, cudaSuccess; }
cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= device_count()) return cudaErrorInvalidDevice;
  current_device = device;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* found, int) {
  memset(found, 0, sizeof *found);
  strcpy(found->name, "Pretended GPU");
  found->major = 9;
  found->totalGlobalMem = size_t(80) << 30;
  found->multiProcessorCount = 132;
  found->warpSize = 32;
  found->maxThreadsPerBlock = 1024;
  found->maxThreadsPerMultiProcessor = 2048;
  found->maxBlocksPerMultiProcessor = 32;
  found->sharedMemPerBlock = 49152;
  found->sharedMemPerBlockOptin = 232448;
  found->sharedMemPerMultiprocessor = 233472;
  found->regsPerBlock = found->regsPerMultiprocessor = 65536;
  found->maxThreadsDim[0] = found->maxThreadsDim[1] = 1024;
  found->maxThreadsDim[2] = 64;
  found->maxGridSize[0] = 2147483647;
  found->maxGridSize[1] = found->maxGridSize[2] = 65535;
  found->l2CacheSize = 50 << 20;
  found->unifiedAddressing = 1;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor: *value = 9; break;
    case cudaDevAttrComputeCapabilityMinor: *value = 0; break;
    case cudaDevAttrMultiProcessorCount: *value = 132; break;
    case cudaDevAttrMaxThreadsPerBlock: *value = 1024; break;
    case cudaDevAttrMaxThreadsPerMultiProcessor: *value = 2048; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = 49152; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = 232448; break;
    case cudaDevAttrWarpSize: *value = 32; break;
    case cudaDevAttrMaxGridDimX: *value = 2147483647; break;
    case cudaDevAttrMaxGridDimY:
    case cudaDevAttrMaxGridDimZ: *value = 65535; break;
    default: *value = 1;
  }
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) { return *version = CUDART_VERSION, cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int* version) { return *version = CUDART_VERSION, cudaSuccess; }
cudaError_t cudaDeviceCanAccessPeer(int* can, int, int) { return *can = 1, cudaSuccess; }
cudaError_t cudaDeviceGetPCIBusId(char* id, int size, int) {
  strncpy(id, "0000:00:00.0", size);
  return cudaSuccess;
}
const char* cudaGetErrorString(cudaError_t) { return "error of the pretended GPU"; }
const char* cudaGetErrorName(cudaError_t) { return "cudaErrorPretended"; }

// Memory. A GPU's is not cleared: bytes of ones are NaN in every floating-point type.
cudaError_t cudaMalloc(void** p, size_t bytes) { return allocate(device_blocks, p, bytes, 0xff); }
cudaError_t cudaFree(void* p) { return release(device_blocks, p); }
cudaError_t cudaHostAlloc(void** p, size_t bytes, unsigned) {
  return allocate(pinned_blocks, p, bytes, 0);
}
cudaError_t cudaFreeHost(void* p) { return release(pinned_blocks, p); }
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  *free = *total = size_t(80) << 30;
  return cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* found, const void* pointer) {
  memset(found, 0, sizeof *found);
  const bool device = contains(device_blocks, pointer), pinned = contains(pinned_blocks, pointer);
  found->type = device ? cudaMemoryTypeDevice
                       : pinned ? cudaMemoryTypeHost : cudaMemoryTypeUnregistered;
  found->device = device || pinned ? 0 : -2;
  if (device || pinned) found->devicePointer = (void*)pointer;
  return cudaSuccess;
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  ++counts.waits;
  return copy(to, from, bytes, kind);
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t n, cudaMemcpyKind k, cudaStream_t) {
  return copy(to, from, n, k);
}
cudaError_t cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t n, cudaStream_t) {
  return copy(to, from, n, cudaMemcpyDeviceToDevice);
}
cudaError_t cudaMemset(void* p, int v, size_t n) { return memset(p, v, n), cudaSuccess; }
cudaError_t cudaMemsetAsync(void* p, int v, size_t n, cudaStream_t) {
  return memset(p, v, n), cudaSuccess;
}

// Streams and events: all work is done when it is submitted.
cudaError_t cudaStreamSynchronize(cudaStream_t) { return wait(); }
cudaError_t cudaDeviceSynchronize() { return wait(); }
cudaError_t cudaEventSynchronize(cudaEvent_t) { return wait(); }
cudaError_t cudaStreamCreate(cudaStream_t* stream) { return make(stream); }
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* s, unsigned, int) { return make(s); }
cudaError_t cudaStreamGetPriority(cudaStream_t, int* value) { return *value = 0, cudaSuccess; }
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  return *status = cudaStreamCaptureStatusNone, cudaSuccess;
}
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t, cudaStreamCaptureStatus* status,
                                     unsigned long long* id, cudaGraph_t*, const cudaGraphNode_t**,
                                     const cudaGraphEdgeData**, size_t*) {
  if (id) *id = 0;
  return *status = cudaStreamCaptureStatusNone, cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return make(event); }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) { return make(event); }
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t, cudaEvent_t) {
  return *ms = 0, cudaSuccess;
}

// Kernels
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* found, const void*) {
  memset(found, 0, sizeof *found);
  found->maxThreadsPerBlock = 1024;
  found->numRegs = 32;
  found->ptxVersion = found->binaryVersion = 90;
  found->maxDynamicSharedSizeBytes = 232448;
  return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void*, int,
                                                                   size_t, unsigned) {
  return *blocks = 2, cudaSuccess;
}
cudaError_t cudaGetSymbolAddress(void** address, const void*) {
  static char memory[1 << 16];
  return *address = memory, cudaSuccess;
}
cudaError_t cudaGetDriverEntryPointByVersion(const char*, void** function, unsigned,
                                             unsigned long long,
                                             cudaDriverEntryPointQueryResult* result) {
  *function = (void*)no_driver_function;
  if (result) *result = cudaDriverEntryPointSuccess;
  return cudaSuccess;
}
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, void* stream) {
  launches.push_back({grid, block, shared, stream});
  return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared, void* stream) {
  const Launch last = launches.back();
  launches.pop_back();
  *grid = last.grid;
  *block = last.block;
  *shared = last.shared;
  *(void**)stream = last.stream;
  return cudaSuccess;
}
void** __cudaRegisterFatBinary(void*) {
  static void* handle[1];
  return handle;
}
cudaError_t __cudaGetKernel(void** kernel, const void* function) {
  return *kernel = (void*)function, cudaSuccess;
}
cudaError_t __cudaLaunchKernel(void*, dim3 grid, dim3, void**, size_t, cudaStream_t) {
  return launch(grid);
}
cudaError_t cudaLaunchKernel(const void*, dim3 grid, dim3, void**, size_t, cudaStream_t) {
  return launch(grid);
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void*, void**) {
  return launch(config->gridDim);
}

// The driver, as which this library is found under its own name: a context for every device.
int cuDevicePrimaryCtxGetState(int, unsigned* flags, int* active) {
  if (flags) *flags = 0;
  return *active = 1, 0;
}
int cuDriverGetVersion(int* version) { return *version = CUDART_VERSION, 0; }
int cuGetErrorString(int, const char** text) { return *text = "error of the pretended GPU", 0; }
}
