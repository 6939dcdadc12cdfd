// Ports and plain HTTP on this machine, as little of it as tests need.
#ifndef ISTHMUS_TESTS_SUPPORT_HTTP_H_
#define ISTHMUS_TESTS_SUPPORT_HTTP_H_

#include <string>

namespace isthmus::testing {

// A socket of 127.0.0.1, closed at the end.
class Socket {
 public:
  // Returns a connected socket, if `valid`. Reads and writes give up after a minute.
  static Socket Connect(int port);
  // Listening on a port of its own, or on `port`.
  static Socket Listen(int port = 0);
  Socket(Socket&& other) noexcept;
  Socket& operator=(Socket&& other) noexcept;
  ~Socket();

  bool valid() const { return descriptor_ >= 0; }
  int port() const;
  // Returns false when the other side does not take it.
  bool Send(const std::string& bytes) const;
  // Returns everything until the other side closes, or until nothing comes for a minute.
  std::string ReceiveAll() const;

 private:
  explicit Socket(int descriptor) : descriptor_(descriptor) {}
  int descriptor_ = -1;
};

// `count` consecutive ports that nobody listened on a moment ago; the first of them.
int FreePorts(int count = 1);

// The body of the answer to a request; empty unless its status is 200.
std::string HttpGet(int port, const std::string& path, const std::string& method = "GET");

// Calls HttpGet until the body holds `text`, for at most `seconds`; returns the last body.
std::string AwaitHttp(int port, const std::string& path, const std::string& text, double seconds);

}  // namespace isthmus::testing

#endif  // ISTHMUS_TESTS_SUPPORT_HTTP_H_
