#include "tests/support/http.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <chrono>
#include <iterator>
#include <random>
#include <thread>
#include <utility>
#include <vector>

namespace isthmus::testing {
namespace {

sockaddr_in Loopback(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

}  // namespace

Socket Socket::Connect(int port) {
  Socket socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const timeval limit{.tv_sec = 60, .tv_usec = 0};
  setsockopt(socket.descriptor_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  setsockopt(socket.descriptor_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
  const sockaddr_in address = Loopback(port);
  if (connect(socket.descriptor_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) return socket;
  return Socket(-1);
}

Socket Socket::Listen(int port) {
  Socket socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in address = Loopback(port);
  if (bind(socket.descriptor_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 &&
      listen(socket.descriptor_, 8) == 0) {
    return socket;
  }
  return Socket(-1);
}

Socket::Socket(Socket&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}

Socket& Socket::operator=(Socket&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

Socket::~Socket() {
  if (descriptor_ >= 0) close(descriptor_);
}

int Socket::port() const {
  sockaddr_in address{};
  socklen_t size = sizeof(address);
  getsockname(descriptor_, reinterpret_cast<sockaddr*>(&address), &size);
  return ntohs(address.sin_port);
}

bool Socket::Send(const std::string& bytes) const {
  return send(descriptor_, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
}

std::string Socket::ReceiveAll() const {
  std::string all;
  char buffer[8192];
  for (ssize_t got = 0; (got = recv(descriptor_, buffer, sizeof(buffer), 0)) > 0;) all.append(buffer, got);
  return all;
}

int FreePorts(int count) {
  std::random_device random;
  for (int attempt = 0; attempt < 1000; ++attempt) {
    // Below the range from which the kernel gives ports to whoever asks for any.
    const int first = std::uniform_int_distribution(10'000, 32'000)(random);
    std::vector<Socket> all;
    do {
      all.push_back(Socket::Listen(first + static_cast<int>(all.size())));
    } while (all.back().valid() && std::ssize(all) < count);
    if (all.back().valid()) return first;
  }
  return 0;
}

std::string HttpGet(int port, const std::string& path, const std::string& method) {
  const Socket socket = Socket::Connect(port);
  const std::string request = absl::StrCat(method, " ", path, " HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n");
  if (!socket.valid() || !socket.Send(request)) return "";
  const std::string answer = socket.ReceiveAll();
  const size_t body = answer.find("\r\n\r\n");
  const std::string status = answer.substr(0, answer.find('\r'));
  return body == std::string::npos || !absl::StrContains(status, " 200") ? "" : answer.substr(body + 4);
}

std::string AwaitHttp(int port, const std::string& path, const std::string& text, double seconds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  std::string body;
  do {
    body = HttpGet(port, path);
    if (absl::StrContains(body, text)) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  } while (std::chrono::steady_clock::now() < end);
  return body;
}

}  // namespace isthmus::testing
