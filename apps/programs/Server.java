import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicLong;

/** The HTTP server of the JDK: a counter. Each request makes garbage. */
public class Server {
    public static void main(String[] arguments) throws Exception {
        var calls = new AtomicLong();
        var server = HttpServer.create(new InetSocketAddress("0.0.0.0", 8080), 64);
        server.createContext("/", exchange -> {
            var garbage = new byte[4 << 20];
            garbage[(int) (calls.get() % garbage.length)] = 1;
            var body = ("ok " + calls.incrementAndGet() + "\n").getBytes();
            exchange.sendResponseHeaders(200, body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
        server.setExecutor(Executors.newFixedThreadPool(4));
        server.start();
    }
}
